//! Stable codes of this crate's errors. Users, tools and documents refer to them; sentences may change.

/// Declares each code once: a constant, and its row in [`CODES`].
macro_rules! codes {
    ($($name:ident = $code:literal, $meaning:literal, $action:literal;)*) => {
        $(
            #[doc = concat!("`", $code, "`: ", $meaning, ".")]
            pub const $name: &str = $code;
        )*
        /// Every code: the code, what it means, what to do.
        pub const CODES: &[(&str, &str, &str)] = &[$(($name, $meaning, $action)),*];
    };
}

codes! {
    MODEL_UNREADABLE = "model_unreadable", "the model folder or one of its files cannot be read",
        "give the guest's user read access to the folder that the configuration names";
    MODEL_FILE_REFUSED = "model_file_refused",
        "the model folder holds a link, a device, a name that is not plain, too many files, or a file that changed",
        "copy the checkpoint into a folder of plain files that nothing writes to";
    MODEL_FILE_MISSING = "model_file_missing", "a file that every model has is missing",
        "complete the checkpoint: config.json, tokenizer.json, and model.safetensors or the shards of its index";
    MODEL_MANIFEST_MISMATCH = "model_manifest_mismatch", "a model file is not the expected one",
        "restore the model from the source that its manifest was made of";
    MODEL_CONFIG_INVALID = "model_config_invalid", "a JSON file of the model does not say what it must",
        "take the file from the original checkpoint";
    MODEL_UNSUPPORTED = "model_unsupported", "the model is of an architecture, or uses a feature, that is not built in",
        "serve an unquantised checkpoint of the Llama, Qwen2 or Qwen3 family";
    MODEL_WEIGHTS_INVALID = "model_weights_invalid", "a weight file is not in safetensors format",
        "fetch the file again and compare its checksum";
    GGUF_INVALID = "gguf_invalid", "a model file is not in GGUF format, or its metadata are incomplete",
        "compare the file with the model's manifest, or convert the model again";
    TENSOR_MISSING = "tensor_missing", "the architecture needs a tensor that no weight file has",
        "complete the checkpoint, or take the config.json that belongs to it";
    TENSOR_UNEXPECTED = "tensor_unexpected", "a weight file has a tensor twice, or one that the architecture lacks",
        "take the config.json that belongs to the weights";
    TENSOR_SHAPE = "tensor_shape", "a tensor has another shape than config.json says",
        "take the config.json that belongs to the weights";
    TENSOR_TYPE = "tensor_type", "a tensor is neither bf16, f16 nor f32",
        "serve an unquantised checkpoint";
    TOKENIZER_INVALID = "tokenizer_invalid", "tokenizer.json cannot be used with this model",
        "take the tokenizer.json that belongs to the weights";
    CHAT_TEMPLATE_INVALID = "chat_template_invalid", "there is no chat template, or it does not compile",
        "take chat_template.jinja or tokenizer_config.json of the instruction-tuned checkpoint";
    MODEL_LOAD_PANICKED = "model_load_panicked", "a library panicked on a file of the model",
        "take every file from the original checkpoint; where it comes from there, report it";
    CHAT_TEMPLATE_REFUSED = "chat_template_refused", "the model's chat template does not accept these messages",
        "send the roles and the order of messages that the model was trained with";
    CONTROL_TOKEN_IN_MESSAGE = "control_token_in_message",
        "a message spells a control token that this model's tokenizer cannot tell from a real one",
        "leave the control token out of the message, or write it with a space inside";
    REQUEST_INVALID = "request_invalid", "the request breaks a limit that holds for every model",
        "send what the sentence of the error asks for";
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded", "prompt and completion do not fit the model's context",
        "shorten the messages or lower max_tokens";
    MODEL_NOT_FINITE = "model_not_finite", "the model computed values that are not finite",
        "compare the model's manifest: weights are damaged, or were not trained";
    ENGINE_COMPUTE = "engine_compute", "a tensor operation failed",
        "report it with the log of the guest: this is a fault of the engine";
    ENGINE_OUT_OF_MEMORY = "engine_out_of_memory", "there is no memory for the model or for a sequence",
        "give the virtual machine more memory, or serve a smaller model";
    ENGINE_BUSY = "engine_busy", "as many requests wait in the engine as may",
        "send the request again later";
    ENGINE_EXITED = "engine_exited", "the engine process is gone",
        "start the guest again, and look in its log for what ended the engine";
    ENGINE_PROTOCOL = "engine_protocol", "the engine process said something that it must not say",
        "start the guest again, and report it: this is a fault of the engine";
    ENGINE_STALLED = "engine_stalled", "the engine process had requests and said nothing for too long",
        "start the guest again; where the model is large for the machine, raise limits.engine_seconds";
    REQUEST_TOO_LARGE = "request_too_large", "the request has more bytes than may be sent",
        "shorten the messages";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_distinct_and_have_sentences_without_full_stops() {
        let codes: BTreeSet<&str> = CODES.iter().map(|(code, ..)| *code).collect();
        assert_eq!(codes.len(), CODES.len());
        for (code, meaning, action) in CODES {
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
            for sentence in [meaning, action] {
                assert!(
                    sentence.len() > 10 && !sentence.ends_with('.') && !sentence.contains("  "),
                    "{code}: {sentence}"
                );
            }
        }
    }
}
