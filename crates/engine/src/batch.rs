//! Continuous batching: requests join and leave between any two steps, and every step computes all of them together.

use std::collections::VecDeque;

use crate::engine::{Engine, Generation, Step, Turn};
use crate::error::EngineError;
use crate::pages::PAGE_TOKENS;
use crate::plan::{self, Demand, plan};
use crate::prefix::{KeyHolder, PrefixCache};
use crate::request::{ChatRequest, FinishReason, Usage};
use crate::waiting::Waiting;

/// Requests that run together. Each holds pages for the tokens that it has, and no more.
pub const MAX_ACTIVE: usize = 256;
/// Requests that wait for one of those places, or for pages: minutes of waiting, even for the last.
pub const MAX_WAITING: usize = 256;

/// Requests of one engine, each under a name of the caller's.
pub struct Batch<'a, N> {
    engine: &'a Engine,
    /// Oldest first.
    active: Vec<Active<'a, N>>,
    /// Those that were tokenized but have no pages yet, or lost them again. They come before all that wait.
    held: VecDeque<Active<'a, N>>,
    waiting: Waiting<(N, ChatRequest)>,
    prefixes: PrefixCache,
    /// Counts steps, for whose turn it is.
    steps: usize,
}

struct Active<'a, N> {
    name: N,
    holder: Option<KeyHolder>,
    generation: Generation<'a>,
}

/// What became of a request in a step.
pub enum Outcome {
    /// It goes on with this text, never empty.
    Text(String),
    /// It is over.
    Finished {
        /// The rest of the text, possibly empty.
        text: String,
        /// Why.
        reason: FinishReason,
        /// Tokens that it took.
        usage: Usage,
    },
    /// It failed.
    Failed(EngineError),
}

/// What there is at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that run together.
    pub active: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Pages that requests hold, and those that are kept.
    pub pages_used: usize,
    /// Those of them that are kept for next prompts alone, or also.
    pub pages_kept: usize,
    /// Pages that there can be.
    pub pages: usize,
}

impl<'a, N: Copy + PartialEq> Batch<'a, N> {
    /// No requests.
    pub fn new(engine: &'a Engine) -> Self {
        Self {
            engine,
            active: Vec::new(),
            held: VecDeque::new(),
            waiting: Waiting::new(),
            prefixes: PrefixCache::default(),
            steps: 0,
        }
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.active.is_empty() && self.held.is_empty() && self.waiting.len() == 0
    }

    /// What there is now.
    pub fn load(&self) -> Load {
        let pages = self.engine.pages();
        Load {
            active: self.active.len(),
            waiting: self.waiting.len().saturating_add(self.held.len()),
            pages_used: pages.used(),
            pages_kept: self.prefixes.len(),
            pages: pages.limit(),
        }
    }

    /// Whether a request of this name runs or waits.
    pub fn knows(&self, name: N) -> bool {
        self.active.iter().chain(&self.held).any(|active| active.name == name)
            || self.waiting.iter().any(|(waiting, _)| *waiting == name)
    }

    /// Adds a request of `holder`.
    ///
    /// # Errors
    /// The request comes back: as many wait as may.
    pub fn push(
        &mut self,
        name: N,
        holder: Option<KeyHolder>,
        request: ChatRequest,
    ) -> Result<(), ChatRequest> {
        let there = self.active.len().saturating_add(self.held.len()).saturating_add(self.waiting.len());
        if there >= MAX_ACTIVE + MAX_WAITING {
            return Err(request);
        }
        self.waiting.push(holder, (name, request));
        Ok(())
    }

    /// Forgets a request. Its pages are free at once, but for those that are kept for the next prompt of its key-holder.
    pub fn cancel(&mut self, name: N) {
        self.active.retain(|active| active.name != name);
        self.held.retain(|active| active.name != name);
        self.waiting.remove(|(waiting, _)| *waiting == name);
    }

    /// Forgets what is kept for next prompts.
    pub fn forget_prefixes(&mut self) {
        self.prefixes = PrefixCache::default();
    }

    /// Lets requests in, computes one step, and says what became of whom. Nothing comes of requests whose prompt is being read.
    pub fn step(&mut self) -> Vec<(N, Outcome)> {
        let mut outcomes = Vec::new();
        self.admit(&mut outcomes);
        self.steps = self.steps.wrapping_add(1);
        let tokens = self.plan(&mut outcomes);
        let mut turns = Vec::new();
        let mut names = Vec::new();
        for (active, tokens) in self.active.iter_mut().zip(tokens).filter(|(_, tokens)| *tokens > 0) {
            names.push(active.name);
            turns.push(Turn { generation: &mut active.generation, tokens });
        }
        if turns.is_empty() {
            return outcomes;
        }
        match self.engine.advance(&mut turns) {
            Ok(results) => {
                names.into_iter().zip(results).for_each(|(name, result)| {
                    self.settle(name, result, &mut outcomes);
                });
            }
            // The pages were counted, so that the system itself is out of memory: the youngest must give way.
            Err(error) => self.give_way(error, &mut outcomes),
        }
        outcomes
    }

    /// Lets in whom there are pages for, until their prompts fill a step.
    fn admit(&mut self, outcomes: &mut Vec<(N, Outcome)>) {
        let mut tokens = 0_usize;
        while self.active.len() < MAX_ACTIVE && tokens < plan::ROWS {
            let Some(mut next) = self.next(outcomes) else { return };
            if let Some(holder) = next.holder {
                next.generation.begin_from(&mut self.prefixes, holder);
            }
            // A page more, so that what was let in can draw.
            let pages = next.generation.pages_for(next.generation.pending()).saturating_add(1);
            if !self.make_room(pages) && !self.active.is_empty() {
                // Those that run must not lack the pages of its prompt while it waits.
                next.generation.give_back();
                self.held.push_front(next);
                return;
            }
            tokens = tokens.saturating_add(next.generation.pending());
            self.active.push(next);
        }
    }

    /// The next request, tokenized.
    fn next(&mut self, outcomes: &mut Vec<(N, Outcome)>) -> Option<Active<'a, N>> {
        if let Some(held) = self.held.pop_front() {
            return Some(held);
        }
        loop {
            let running = |holder| self.active.iter().filter(|active| active.holder == holder).count();
            let (holder, (name, request)) = self.waiting.pop(running)?;
            match self.engine.start(&request) {
                Ok(generation) => return Some(Active { name, holder, generation }),
                Err(error) => outcomes.push((name, Outcome::Failed(error))),
            }
        }
    }

    /// Gives up kept pages until `pages` are free, and says whether they are.
    fn make_room(&mut self, pages: usize) -> bool {
        while self.engine.pages().free() < pages {
            if !self.prefixes.give_up_one() {
                return false;
            }
        }
        true
    }

    /// How many tokens each computes. Where nobody could go on, the youngest give their pages back and wait.
    fn plan(&mut self, outcomes: &mut Vec<(N, Outcome)>) -> Vec<usize> {
        loop {
            let wanted =
                self.active.iter().map(|active| active.generation.pages_for(active.generation.pending()));
            let wanted = wanted.fold(0, usize::saturating_add);
            self.make_room(wanted);
            let demands: Vec<Demand> = self.active.iter().map(|active| active.generation.demand()).collect();
            let tokens = plan(&demands, self.steps, self.engine.pages().free(), PAGE_TOKENS);
            if self.active.is_empty() || tokens.iter().any(|tokens| *tokens > 0) {
                return tokens;
            }
            let bytes = self.engine.pages().page_bytes();
            self.give_way(EngineError::OutOfMemory { bytes }, outcomes);
        }
    }

    /// The youngest gives its pages back and waits. One that is alone fails: it will never have enough.
    fn give_way(&mut self, error: EngineError, outcomes: &mut Vec<(N, Outcome)>) {
        let Some(mut youngest) = self.active.pop() else { return };
        if self.active.is_empty() {
            outcomes.push((youngest.name, Outcome::Failed(error)));
            return;
        }
        youngest.generation.give_back();
        self.held.push_front(youngest);
    }

    /// Takes what a step brought one request.
    fn settle(&mut self, name: N, result: Result<Step, EngineError>, outcomes: &mut Vec<(N, Outcome)>) {
        let Some(place) = self.active.iter().position(|active| active.name == name) else { return };
        let outcome = match result {
            Ok(Step::Text(text)) if text.is_empty() => return,
            Ok(Step::Text(text)) => {
                outcomes.push((name, Outcome::Text(text)));
                return;
            }
            Ok(Step::Finished { text, reason }) => {
                let Active { holder, generation, .. } = self.active.remove(place);
                if let Some(holder) = holder {
                    generation.leave_to(&mut self.prefixes, holder);
                }
                Outcome::Finished { text, reason, usage: generation.usage() }
            }
            Err(error) => {
                self.active.remove(place);
                Outcome::Failed(error)
            }
        };
        outcomes.push((name, outcome));
    }
}
