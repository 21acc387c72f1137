//! Text to tokens and back.

use std::collections::BTreeSet;

use tokenizers::Tokenizer;
use zeroize::Zeroize as _;

use crate::error::EngineError;
use crate::guard::catch;
use crate::shield::Shield;

/// Name of the file.
pub(crate) const TOKENIZER: &str = "tokenizer.json";

/// Tokens that a [`Detokenizer`] decodes anew with each token. Longer windows cost time, shorter ones lose
/// the context that some decoders look at.
const WINDOW: usize = 16;
/// Tokens that the next window keeps.
const KEPT: usize = 6;
/// Bytes of a character that can be waiting for the rest: one has at most four in UTF-8. Decoders show them as one
/// replacement character, or as one each.
const MAX_PARTIAL: usize = 3;

/// Bytes of a text that are counted at a time, where it may be far too long. Each cut may add a few tokens to the count,
/// or hide a few.
const COUNTED: usize = 1 << 16;

/// Levels of objects and arrays in a `tokenizer.json`. Those of public models have fewer than ten; the library panics on
/// some that have more than a hundred.
const MAX_NESTING: usize = 64;

const PANICKED: &str = "the library panics on it";

/// The tokenizer of a model.
pub struct TextTokenizer(Tokenizer);

impl TextTokenizer {
    /// Parses `tokenizer.json` of a model with `vocabulary` rows in its embedding.
    ///
    /// # Errors
    /// [`EngineError::TokenizerInvalid`]: not a tokenizer, or with tokens that the model does not have.
    pub fn parse(json: &[u8], vocabulary: usize) -> Result<Self, EngineError> {
        let invalid = |reason| EngineError::TokenizerInvalid { reason };
        if is_nested_beyond(MAX_NESTING, json) {
            return Err(invalid(format!("it nests deeper than {MAX_NESTING} levels")));
        }
        let parsed = catch(|| Tokenizer::from_bytes(json)).ok_or_else(|| invalid(PANICKED.to_owned()))?;
        let mut tokenizer = parsed.map_err(|error| invalid(error.to_string()))?;
        // A checkpoint may ask for fixed-length prompts; the engine never pads and never cuts.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| invalid(error.to_string()))?;
        let tokens = tokenizer.get_vocab(true);
        if tokens.is_empty() {
            return Err(invalid("it has no tokens".to_owned()));
        }
        match tokens.values().max().map(|largest| usize::try_from(*largest).unwrap_or(usize::MAX)) {
            Some(largest) if largest >= vocabulary => {
                Err(invalid(format!("token {largest} of a vocabulary of {vocabulary}")))
            }
            _ => Ok(Self(tokenizer)),
        }
    }

    /// Makes the tokenizer drop the marks of a shield, which it returns.
    pub(crate) fn shield(&mut self, end_tokens: &BTreeSet<u32>) -> Result<Shield, EngineError> {
        let shield = catch(|| Shield::new(&mut self.0, end_tokens));
        shield.unwrap_or_else(|| Err(EngineError::TokenizerInvalid { reason: PANICKED.to_owned() }))
    }

    /// Tokens of `text`. Special tokens are recognised, none is added: the chat template wrote them. What messages
    /// say must not come here as it is: [`Engine::prompt`](crate::Engine::prompt).
    ///
    /// # Errors
    /// [`EngineError::TokenizerInvalid`]: the tokenizer cannot express the text. The reason does not quote it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let encoding = catch(|| self.0.encode_fast(text, false).ok()).flatten();
        let encoding = encoding.ok_or_else(|| EngineError::TokenizerInvalid {
            reason: "it cannot encode this prompt".to_owned(),
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Whether `text` has more than twice `limit` tokens, found without tokenizing much more than that: four megabytes take
    /// seconds, and a peer that sends them again and again would keep the engine from everybody else's requests.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub(crate) fn is_far_beyond(&self, limit: usize, text: &str) -> Result<bool, EngineError> {
        let (mut rest, mut tokens) = (text, 0usize);
        while rest.len() > COUNTED || (tokens > 0 && !rest.is_empty()) {
            let cut = rest.floor_char_boundary(COUNTED);
            tokens = tokens.saturating_add(self.encode(&rest[..cut])?.len());
            if tokens > limit.saturating_mul(2) {
                return Ok(true);
            }
            rest = &rest[cut..];
        }
        Ok(false)
    }

    /// Text of `tokens` without special tokens. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`EngineError::TokenizerInvalid`]: the decoder of the tokenizer failed.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, EngineError> {
        let text = catch(|| self.0.decode(tokens, true).ok()).flatten();
        text.ok_or_else(|| EngineError::TokenizerInvalid {
            reason: "it cannot decode these tokens".to_owned(),
        })
    }

    /// The token that is written `text`.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.0.token_to_id(text)
    }

    /// Number of tokens, special ones included.
    pub fn size(&self) -> usize {
        self.0.get_vocab_size(true)
    }
}

/// Whether a JSON text opens more than `limit` objects and arrays inside each other.
fn is_nested_beyond(limit: usize, json: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => depth = depth.saturating_add(1),
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return true;
        }
    }
    false
}

/// Turns tokens into text as they come, never half a character.
///
/// All pieces together are [`TextTokenizer::decode`] of all tokens.
pub struct Detokenizer<'a> {
    tokenizer: &'a TextTokenizer,
    window: Vec<u32>,
    /// Bytes of the window's text that were given out.
    given: usize,
}

impl<'a> Detokenizer<'a> {
    /// Starts at the beginning of a completion.
    pub fn new(tokenizer: &'a TextTokenizer) -> Self {
        Self { tokenizer, window: Vec::new(), given: 0 }
    }

    /// Takes a token and returns the text that is now complete, often empty.
    ///
    /// # Errors
    /// As [`TextTokenizer::decode`].
    pub fn push(&mut self, token: u32) -> Result<String, EngineError> {
        self.window.push(token);
        let text = self.tokenizer.decode(&self.window)?;
        let complete = complete_bytes(&text);
        let piece = text.get(self.given..complete).unwrap_or_default().to_owned();
        self.given = self.given.max(complete);
        if complete == text.len() && self.window.len() >= WINDOW {
            self.shorten()?;
        }
        Ok(piece)
    }

    /// The rest at the end of a completion: bytes that never became a character, as U+FFFD.
    ///
    /// # Errors
    /// As [`TextTokenizer::decode`].
    pub fn finish(&mut self) -> Result<String, EngineError> {
        let text = self.tokenizer.decode(&self.window)?;
        let piece = text.get(self.given..).unwrap_or_default().to_owned();
        self.given = text.len();
        Ok(piece)
    }

    /// Forgets old tokens. Called when everything was given out.
    fn shorten(&mut self) -> Result<(), EngineError> {
        let old = self.window.len().saturating_sub(KEPT);
        self.window.get_mut(..old).unwrap_or_default().zeroize();
        self.window.drain(..old);
        self.given = self.tokenizer.decode(&self.window)?.len();
        Ok(())
    }
}

impl Drop for Detokenizer<'_> {
    fn drop(&mut self) {
        self.window.zeroize();
    }
}

/// Bytes of `text` before a character that may still be incomplete.
fn complete_bytes(text: &str) -> usize {
    let partial =
        text.chars().rev().take(MAX_PARTIAL).take_while(|c| *c == char::REPLACEMENT_CHARACTER).count();
    text.len().saturating_sub(partial.saturating_mul(char::REPLACEMENT_CHARACTER.len_utf8()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_can_be_incomplete() {
        assert_eq!(complete_bytes("ab\u{fffd}"), 2);
        assert_eq!(complete_bytes("a\u{fffd}b"), 5);
        assert_eq!(complete_bytes("\u{fffd}\u{fffd}\u{fffd}\u{fffd}"), 3);
        assert_eq!(complete_bytes(""), 0);
    }

    #[test]
    fn nesting_is_counted_outside_of_strings() {
        for (json, depth) in
            [("[[]]", 2), ("[{}]", 2), ("[],[]", 1), (r#"["[[\"[["]"#, 1), (r#""\\"[["#, 2), ("]]", 0)]
        {
            assert!(!is_nested_beyond(depth, json.as_bytes()), "{json}");
            assert!(depth == 0 || is_nested_beyond(depth - 1, json.as_bytes()), "{json}");
        }
    }

    #[test]
    fn what_is_not_a_tokenizer_is_refused() {
        for json in [&b""[..], b"{}", b"\xff", b"[1]"] {
            let error = TextTokenizer::parse(json, 10).map(|_| ()).unwrap_err();
            assert_eq!(error.code(), "tokenizer_invalid");
        }
    }
}
