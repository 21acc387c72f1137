//! Trains the tiny model of `fixtures/models/tiny` from the text beside it and writes it there:
//! `cargo run -p confide-engine --example train_tiny [-- OUTPUT_FOLDER [STEPS]]`.
//!
//! Seed, text and order are fixed; the sums of a matrix product depend on processor and thread count, so
//! that weights differ in their last bits between machines.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

mod network;
mod text;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Error, Result, ensure};
use candle_core::{Device, Tensor};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW, loss};
use confide_engine::process::fix_thread_count;
use network::{EPSILON, Network, ROPE_THETA, Shape};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use text::{SYSTEM, Text};
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, PostProcessorWrapper, Tokenizer, TokenizerBuilder};

const SEED: u64 = 20_261_121;
const STEPS: usize = 800;
const BATCH: usize = 16;
const RATE: f64 = 3e-3;
const WARM_UP: f64 = 40.0;
/// Tokens of the context that the files name. Rows in training are shorter; rotary positions stretch.
const CONTEXT: usize = 512;
const VOCABULARY: usize = 1024;

const START: &str = "<|im_start|>";
const END: &str = "<|im_end|>";
const PAD: &str = "<|endoftext|>";
const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}\
    <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn main() -> Result<()> {
    fix_thread_count();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/tiny");
    let mut arguments = std::env::args().skip(1);
    let output = arguments.next().map_or_else(|| fixture.clone(), PathBuf::from);
    let steps = arguments.next().map_or(Ok(STEPS), |steps| steps.parse()).context("STEPS is a number")?;
    fs::create_dir_all(&output)?;
    let read = |name: &str| fs::read_to_string(fixture.join(name)).with_context(|| name.to_owned());
    let text = Text::parse(&read("dialogues.txt")?, &read("templates.txt")?)?;

    let start = Instant::now();
    let tokenizer = train_tokenizer(&text)?;
    let shape = Shape {
        vocabulary: tokenizer.get_vocab_size(true),
        hidden: 160,
        intermediate: 448,
        layers: 3,
        heads: 4,
        shared_heads: 2,
        row: 96,
    };
    let network = Network::new(shape, SEED)?;
    println!(
        "{} written pairs, {} with templates; {} tokens; {} parameters",
        text.written_pairs(),
        text.pairs().len(),
        shape.vocabulary,
        network.parameters()
    );
    let loss = train(&network, &text, &Encoder::new(&tokenizer)?, shape.row, steps)?;
    write(&output, &tokenizer, &network, shape)?;
    println!(
        "loss {loss:.4} after {steps} steps in {:.0} s: {}",
        start.elapsed().as_secs_f64(),
        output.display()
    );
    Ok(())
}

/// Trains a byte-level BPE tokenizer on every question and answer once.
fn train_tokenizer(text: &Text) -> Result<Tokenizer> {
    let special = [PAD, START, END].map(|token| AddedToken::from(token, true));
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(VOCABULARY)
        .min_frequency(2)
        .special_tokens(special.to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut tokenizer = TokenizerBuilder::<
        BPE,
        NormalizerWrapper,
        ByteLevel,
        PostProcessorWrapper,
        ByteLevelDecoder,
    >::default()
    .with_model(BPE::default())
    .with_normalizer(None)
    .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
    .with_post_processor(None)
    .with_decoder(Some(ByteLevelDecoder::default()))
    .build()
    .map_err(Error::msg)?;
    let mut lines: Vec<String> =
        text.pairs().into_iter().map(|(question, answer)| format!("{question}\n{answer}")).collect();
    lines.extend(text.pairs().into_iter().map(|(question, _)| question.to_lowercase()));
    lines.extend(text.frames());
    lines.extend(SYSTEM.map(str::to_owned));
    lines.extend(["system", "user", "assistant"].map(str::to_owned));
    tokenizer.train(&mut trainer, lines.into_iter()).map_err(Error::msg)?;
    let json = tokenizer.to_string(false).map_err(Error::msg)?;
    json.parse().map_err(Error::msg)
}

/// Turns dialogues into tokens, as the chat template would.
struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    pad: u32,
}

impl<'a> Encoder<'a> {
    fn new(tokenizer: &'a Tokenizer) -> Result<Self> {
        Ok(Self { tokenizer, pad: tokenizer.token_to_id(PAD).context("no padding token")? })
    }

    /// Tokens of `text`, each with whether the model has to predict it.
    fn encode(&self, text: &str, learned: Learned) -> Result<impl Iterator<Item = (u32, Learned)> + use<>> {
        let encoding = self.tokenizer.encode(text, false).map_err(Error::msg)?;
        Ok(encoding.get_ids().to_vec().into_iter().map(move |token| (token, learned)))
    }

    /// A conversation of at least `length` tokens.
    fn conversation(&self, text: &Text, length: usize, random: &mut StdRng) -> Result<Vec<(u32, Learned)>> {
        let mut tokens = Vec::new();
        if random.random_bool(0.2) {
            let system = SYSTEM[random.random_range(0..SYSTEM.len())];
            tokens.extend(self.encode(&format!("{START}system\n{system}{END}\n"), Learned::No)?);
        }
        while tokens.len() < length {
            let (question, answer) = text.draw(random);
            let asked = format!("{START}user\n{question}{END}\n{START}assistant\n");
            tokens.extend(self.encode(&asked, Learned::No)?);
            tokens.extend(self.encode(&format!("{answer}{END}"), Learned::Yes)?);
            tokens.extend(self.encode("\n", Learned::No)?);
        }
        Ok(tokens)
    }

    /// A batch: tokens, flat positions after which something has to be predicted, and what.
    fn batch(&self, text: &Text, row: usize, random: &mut StdRng) -> Result<(Tensor, Tensor, Tensor)> {
        let (mut rows, mut positions, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..BATCH {
            let tokens = self.conversation(text, row + 1, random)?;
            rows.extend(tokens.iter().take(row).map(|(token, _)| *token));
            for (position, (token, learned)) in tokens.iter().skip(1).take(row).enumerate() {
                if *learned == Learned::Yes {
                    positions.push(u32::try_from(index * row + position)?);
                    targets.push(*token);
                }
            }
        }
        ensure!(!rows.contains(&self.pad), "the text contains {PAD}");
        let count = targets.len();
        Ok((
            Tensor::from_vec(rows, (BATCH, row), &Device::Cpu)?,
            Tensor::from_vec(positions, count, &Device::Cpu)?,
            Tensor::from_vec(targets, count, &Device::Cpu)?,
        ))
    }
}

/// Whether the model has to predict a token: those of answers.
#[derive(Clone, Copy, PartialEq)]
enum Learned {
    Yes,
    No,
}

/// Trains with AdamW and a cosine schedule, and returns the mean loss of the last steps, in nats per token
/// of an answer.
fn train(network: &Network, text: &Text, encoder: &Encoder<'_>, row: usize, steps: usize) -> Result<f64> {
    let settings = |decay| ParamsAdamW { lr: RATE, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: decay };
    let (weights, norms) = network.groups();
    let mut optimizers = [AdamW::new(weights, settings(0.1))?, AdamW::new(norms, settings(0.0))?];
    let mut random = StdRng::seed_from_u64(SEED);
    let (start, mut mean) = (Instant::now(), 0.0);
    for step in 0..steps {
        let progress = step as f64 / steps as f64;
        let warm = ((step + 1) as f64 / WARM_UP).min(1.0);
        let rate = RATE * warm * (0.02 + 0.98 * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()));
        let (rows, positions, targets) = encoder.batch(text, row, &mut random)?;
        let loss = loss::cross_entropy(&network.logits(&rows, &positions)?, &targets)?;
        let gradients = loss.backward()?;
        for optimizer in &mut optimizers {
            optimizer.set_learning_rate(rate);
            optimizer.step(&gradients)?;
        }
        let loss = f64::from(loss.to_scalar::<f32>()?);
        mean = if step == 0 { loss } else { 0.97 * mean + 0.03 * loss };
        if (step + 1) % 25 == 0 {
            println!(
                "step {:4} of {steps}: loss {mean:.4}, {:.0} s",
                step + 1,
                start.elapsed().as_secs_f64()
            );
        }
    }
    Ok(mean)
}

/// Writes the model in Hugging Face layout.
fn write(output: &Path, tokenizer: &Tokenizer, network: &Network, shape: Shape) -> Result<()> {
    let end = tokenizer.token_to_id(END).context("no end token")?;
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": shape.hidden, "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.shared_heads, "vocab_size": shape.vocabulary,
        "max_position_embeddings": CONTEXT, "rms_norm_eps": EPSILON, "rope_theta": ROPE_THETA,
        "tie_word_embeddings": true, "bos_token_id": null, "eos_token_id": end, "torch_dtype": "bfloat16",
    });
    let settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT,
        "eos_token": END, "pad_token": PAD, "chat_template": TEMPLATE,
    });
    let pretty = |value| serde_json::to_string_pretty(&value).map(|text| text + "\n");
    fs::write(output.join("config.json"), pretty(config)?)?;
    fs::write(output.join("tokenizer_config.json"), pretty(settings)?)?;
    tokenizer.save(output.join("tokenizer.json"), false).map_err(Error::msg)?;
    candle_core::safetensors::save(&network.stored()?, output.join("model.safetensors"))?;
    Ok(())
}
