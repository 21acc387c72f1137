//! Answers that no model makes, on a software machine: for measuring all that is around a model.

use std::time::Duration;

use confide_engine::protocol::{Event, Failure};
use confide_engine::{ChatRequest, FinishReason, KeyHolder, Usage};
use futures_util::{StreamExt as _, stream};

use crate::api::{Events, Generator};
use crate::config::FixedAnswers;

/// What a token says.
const TOKEN: &str = "token ";

impl Generator for FixedAnswers {
    fn generate(&self, _holder: Option<KeyHolder>, _request: ChatRequest) -> Result<Events, Failure> {
        let Self { tokens, milliseconds } = *self;
        let usage = Usage { prompt_tokens: 1, cached_tokens: 0, completion_tokens: tokens.get() };
        let texts = stream::iter(0..tokens.get()).then(move |_| async move {
            if milliseconds > 0 {
                tokio::time::sleep(Duration::from_millis(u64::from(milliseconds))).await;
            }
            Event::Text(TOKEN.to_owned())
        });
        let end = stream::iter([Event::Finished { reason: FinishReason::Stop, usage }]);
        Ok(Box::pin(texts.chain(end)))
    }

    fn failure(&self) -> Option<Failure> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    #[tokio::test(start_paused = true)]
    async fn each_token_takes_its_time_and_the_last_word_counts_them() {
        let answers = FixedAnswers { tokens: NonZeroU32::new(3).unwrap(), milliseconds: 50 };
        let request = ChatRequest::new(Vec::new());
        let start = tokio::time::Instant::now();
        let events: Vec<Event> = answers.generate(None, request).unwrap().collect().await;
        assert_eq!(start.elapsed(), Duration::from_millis(150));
        let [texts @ .., Event::Finished { reason: FinishReason::Stop, usage }] = events.as_slice() else {
            panic!("no end");
        };
        assert!(texts.iter().all(|event| matches!(event, Event::Text(text) if text == TOKEN)));
        assert_eq!((texts.len(), usage.completion_tokens), (3, 3));
    }
}
