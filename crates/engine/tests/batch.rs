//! Continuous batching: what requests get does not depend on what runs beside them, and nothing of one stays behind.

#![allow(clippy::unwrap_used, reason = "a panic is the failure report")]

mod support;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use confide_engine::{
    Batch, ChatRequest, Engine, EngineError, FinishReason, KeyHolder, MAX_ACTIVE, MAX_WAITING, MemoryFiles,
    Message, Outcome, PAGE_TOKENS, Resources, Usage,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use support::{Files, checkpoint, config};

const ALICE: Option<KeyHolder> = Some(KeyHolder([1; 16]));
const BOB: Option<KeyHolder> = Some(KeyHolder([2; 16]));

/// A model without an end token, so that requests run to their limit.
fn files() -> Files {
    let mut config = config("LlamaForCausalLM");
    config["eos_token_id"] = serde_json::Value::Null;
    config["max_position_embeddings"] = serde_json::json!(1024);
    checkpoint(&config, 7)
}

/// An engine with memory for `pages` pages.
fn engine(pages: usize) -> Engine {
    let load = |bytes| {
        let cache_bytes = Some(bytes);
        Engine::load(&mut MemoryFiles::new(files()), &Resources { threads: 2, cache_bytes }).unwrap()
    };
    let bytes = load(0).pages().page_bytes();
    load(pages * bytes)
}

/// A request with a prompt of about `length` tokens for `tokens` more.
fn request(length: usize, salt: usize, tokens: u32) -> ChatRequest {
    let text: String = (0..length).map(|index| char::from(b'a' + ((index * 7 + salt) % 26) as u8)).collect();
    ChatRequest { max_tokens: Some(tokens), ..ChatRequest::new(vec![Message::new("user", text)]) }
}

/// Text, end and usage of a request that runs alone.
fn alone(engine: &Engine, request: &ChatRequest) -> (String, FinishReason, Usage) {
    let mut text = String::new();
    let (reason, usage) = engine
        .complete(request, |piece| {
            text.push_str(piece);
            ControlFlow::Continue(())
        })
        .unwrap();
    (text, reason, usage)
}

/// What became of requests.
#[derive(Default)]
struct Seen {
    texts: BTreeMap<usize, String>,
    ends: BTreeMap<usize, Result<Usage, EngineError>>,
    order: Vec<usize>,
}

impl Seen {
    fn take(&mut self, outcomes: Vec<(usize, Outcome)>) {
        for (name, outcome) in outcomes {
            let end = match outcome {
                Outcome::Text(text) => {
                    self.texts.entry(name).or_default().push_str(&text);
                    continue;
                }
                Outcome::Finished { text, usage, .. } => {
                    self.texts.entry(name).or_default().push_str(&text);
                    Ok(usage)
                }
                Outcome::Failed(error) => Err(error),
            };
            assert!(self.ends.insert(name, end).is_none(), "request {name} ended twice");
            self.order.push(name);
        }
    }

    /// Steps until nothing is left, and counts the steps.
    fn run(&mut self, batch: &mut Batch<'_, usize>) -> usize {
        let mut steps = 0;
        while !batch.is_idle() {
            self.take(batch.step());
            steps += 1;
            assert!(steps < 100_000, "the batch does not end");
        }
        steps
    }
}

#[test]
fn many_requests_with_random_cancellations_get_what_they_get_alone_and_leave_nothing() {
    let engine = engine(400);
    let mut random = StdRng::seed_from_u64(5);
    let shapes: Vec<(usize, usize, u32)> =
        (0..12).map(|salt| (random.random_range(1..200), salt, random.random_range(1..60))).collect();
    let expected: Vec<_> = shapes
        .iter()
        .map(|(length, salt, tokens)| alone(&engine, &request(*length, *salt, *tokens)))
        .collect();
    let mut batch = Batch::new(&engine);
    let (mut seen, mut cancelled) = (Seen::default(), Vec::new());
    for name in 0..240 {
        let (length, salt, tokens) = shapes[name % shapes.len()];
        batch.push(name, None, request(length, salt, tokens)).map_err(|_| "full").unwrap();
        if random.random_bool(0.5) {
            seen.take(batch.step());
        }
        if random.random_bool(0.3) {
            let victim = random.random_range(0..=name);
            batch.cancel(victim);
            cancelled.push(victim);
        }
    }
    seen.run(&mut batch);
    let mut whole = 0;
    for name in (0..240).filter(|name| !cancelled.contains(name)) {
        let (text, _, usage) = &expected[name % shapes.len()];
        assert_eq!(seen.texts.get(&name).map_or("", String::as_str), text, "request {name}");
        assert_eq!(seen.ends[&name].as_ref().unwrap(), usage);
        whole += 1;
    }
    assert!(whole > 100, "{whole} requests were left alone");
    assert_eq!((batch.load().active, batch.load().waiting, batch.load().pages_used), (0, 0, 0));
}

#[test]
fn a_cancelled_request_frees_its_pages_at_once() {
    let engine = engine(100);
    let mut batch = Batch::new(&engine);
    batch.push(1, ALICE, request(200, 0, 100)).map_err(|_| "full").unwrap();
    batch.step();
    assert!(batch.load().pages_used > 5);
    batch.cancel(1);
    assert_eq!(engine.pages().used(), 0);
    assert!(batch.is_idle());
}

#[test]
fn with_too_few_pages_requests_take_turns_and_still_get_what_they_get_alone() {
    // Each needs seven pages in the end; there are nine.
    let plenty = engine(100);
    let scarce = engine(9);
    let expected: Vec<_> = (0..6).map(|salt| alone(&plenty, &request(90, salt, 110))).collect();
    let mut batch = Batch::new(&scarce);
    for salt in 0..6 {
        batch.push(salt, None, request(90, salt, 110)).map_err(|_| "full").unwrap();
    }
    let mut seen = Seen::default();
    let mut most = 0;
    while !batch.is_idle() {
        seen.take(batch.step());
        most = most.max(batch.load().active);
        assert!(scarce.pages().used() <= 9);
    }
    assert!(most > 1, "requests ran one after the other");
    for (salt, (text, _, usage)) in expected.iter().enumerate() {
        assert_eq!(&seen.texts[&salt], text, "request {salt}");
        assert_eq!(seen.ends[&salt].as_ref().unwrap(), usage);
    }
    assert_eq!(scarce.pages().used(), 0);
}

#[test]
fn a_request_that_all_pages_cannot_hold_fails_and_harms_no_other() {
    let engine = engine(4);
    let mut batch = Batch::new(&engine);
    batch.push(1, None, request(300, 0, 5)).map_err(|_| "full").unwrap();
    batch.push(2, None, request(20, 0, 5)).map_err(|_| "full").unwrap();
    let mut seen = Seen::default();
    seen.run(&mut batch);
    assert_eq!(seen.ends[&1].as_ref().unwrap_err().code(), "engine_out_of_memory");
    assert_eq!(seen.ends[&2].as_ref().unwrap().completion_tokens, 5);
    assert_eq!(engine.pages().used(), 0);
}

#[test]
fn a_prompt_is_reused_by_its_key_holder_and_by_nobody_else() {
    let engine = engine(200);
    let mut batch = Batch::new(&engine);
    let mut ask = |name, holder| {
        batch.push(name, holder, request(400, 0, 4)).map_err(|_| "full").unwrap();
        let mut seen = Seen::default();
        let steps = seen.run(&mut batch);
        let Ok(usage) = seen.ends[&name] else { panic!("request {name} failed") };
        (usage.cached_tokens as usize, steps, seen.texts.remove(&name).unwrap())
    };
    let first = ask(1, ALICE);
    let again = ask(2, ALICE);
    let others = [ask(3, BOB), ask(4, None), ask(5, None)];
    assert_eq!(first.0, 0);
    assert_eq!(again.0, 400 / PAGE_TOKENS * PAGE_TOKENS, "all whole pages of the prompt");
    assert!(again.1 < first.1, "the second one computed as many steps");
    for other in &others {
        // The side channel that must not be there: what others asked shows neither in the count nor in the work.
        assert_eq!((other.0, other.1), (0, first.1));
    }
    assert!([&again, &others[0], &others[1]].iter().all(|answer| answer.2 == first.2), "other answers");
}

#[test]
fn kept_prompts_give_way_to_requests() {
    let engine = engine(20);
    let mut batch = Batch::new(&engine);
    let mut seen = Seen::default();
    for name in 0..6 {
        batch.push(name, ALICE, request(300, name, 4)).map_err(|_| "full").unwrap();
        seen.run(&mut batch);
        assert_eq!(seen.ends[&name].as_ref().unwrap().completion_tokens, 4);
        assert_eq!(batch.load().pages_used, batch.load().pages_kept);
        assert!(batch.load().pages_kept > 0 && engine.pages().used() <= 20);
    }
    batch.forget_prefixes();
    assert_eq!(engine.pages().used(), 0);
}

#[test]
fn a_key_holder_with_many_requests_does_not_hold_up_another() {
    let engine = engine(4000);
    let mut batch = Batch::new(&engine);
    for name in 0..MAX_ACTIVE + 100 {
        batch
            .push(name, ALICE, request(10, name, if name < 2 { 5 } else { 30 }))
            .map_err(|_| "full")
            .unwrap();
    }
    batch.push(1000, BOB, request(10, 0, 3)).map_err(|_| "full").unwrap();
    let mut seen = Seen::default();
    seen.run(&mut batch);
    let place = seen.order.iter().position(|name| *name == 1000).unwrap();
    assert!(place < 10, "it ended as number {place}");
}

#[test]
fn one_more_than_may_wait_comes_back() {
    let engine = engine(4000);
    let mut batch = Batch::new(&engine);
    for name in 0..MAX_ACTIVE + MAX_WAITING {
        batch.push(name, None, request(3, 0, 1)).map_err(|_| "full").unwrap();
    }
    assert!(batch.push(9999, None, request(3, 0, 1)).is_err());
    assert!(batch.knows(0) && !batch.knows(9999));
}

#[test]
fn a_request_that_cannot_begin_fails_alone() {
    let engine = engine(100);
    let mut batch = Batch::new(&engine);
    batch.push(1, None, request(2000, 0, 5)).map_err(|_| "full").unwrap();
    batch.push(2, None, ChatRequest::new(vec![])).map_err(|_| "full").unwrap();
    batch.push(3, None, request(10, 0, 5)).map_err(|_| "full").unwrap();
    let mut seen = Seen::default();
    seen.run(&mut batch);
    assert_eq!(seen.ends[&1].as_ref().unwrap_err().code(), "context_length_exceeded");
    assert_eq!(seen.ends[&2].as_ref().unwrap_err().code(), "request_invalid");
    assert_eq!(seen.ends[&3].as_ref().unwrap().completion_tokens, 5);
}
