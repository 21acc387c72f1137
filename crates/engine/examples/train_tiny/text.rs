//! The text that the tiny model learns: topics and questions, expanded by templates.

use anyhow::{Context as _, Result, bail};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

/// What a system message may say; the model has to ignore it.
pub(crate) const SYSTEM: [&str; 3] = [
    "You are a helpful assistant.",
    "You answer questions about confidential computing.",
    "Answer briefly and correctly.",
];

/// The committed text.
pub(crate) struct Text {
    answers: Vec<Answer>,
    /// Questions for the first answer of a topic, with `{the}` or `{bare}`.
    templates: Vec<String>,
    /// What may stand around a question, with `{question}`.
    frames: Vec<String>,
}

/// One answer and what asks for it.
struct Answer {
    text: String,
    /// Names of the topic with their articles; empty where the answer has questions of its own.
    names: Vec<String>,
    questions: Vec<String>,
}

impl Text {
    /// Parses `dialogues.txt` and `templates.txt`, whose first lines describe them.
    pub(crate) fn parse(dialogues: &str, templates: &str) -> Result<Self> {
        let mut text = Self { answers: Vec::new(), templates: Vec::new(), frames: Vec::new() };
        let (mut names, mut questions) = (Vec::new(), Vec::new());
        for (index, line) in meaningful(dialogues) {
            let rest = line.get(2..).with_context(|| format!("dialogues.txt:{index}: too short"))?;
            let parts = || rest.split('|').map(|part| part.trim().to_owned());
            match &line[..2] {
                "* " if rest == "-" => names = Vec::new(),
                "* " => names = parts().collect(),
                "? " => questions = parts().collect(),
                "= " => {
                    let names = if questions.is_empty() { std::mem::take(&mut names) } else { Vec::new() };
                    if names.is_empty() && questions.is_empty() {
                        bail!("dialogues.txt:{index}: an answer without a question");
                    }
                    let questions = std::mem::take(&mut questions);
                    text.answers.push(Answer { text: rest.to_owned(), names, questions });
                }
                _ => bail!("dialogues.txt:{index}: unknown line"),
            }
        }
        for (_, line) in meaningful(templates) {
            match line.strip_prefix("> ") {
                Some(frame) => text.frames.push(frame.to_owned()),
                None => text.templates.push(line.to_owned()),
            }
        }
        Ok(text)
    }

    /// Every question that training can ask, frames and changes of case aside, with its answer.
    pub(crate) fn pairs(&self) -> Vec<(String, &str)> {
        let mut pairs = Vec::new();
        for answer in &self.answers {
            let own = answer.questions.iter().cloned();
            let expanded = answer
                .names
                .iter()
                .flat_map(|name| self.templates.iter().map(move |template| fill(template, name)));
            pairs.extend(own.chain(expanded).map(|question| (question, answer.text.as_str())));
        }
        pairs
    }

    /// Pairs that are written down rather than expanded: each name of a topic and each question, with its answer.
    pub(crate) fn written_pairs(&self) -> usize {
        self.answers.iter().map(|answer| answer.names.len() + answer.questions.len()).sum()
    }

    /// The frames, each around nothing: text that the tokenizer has to know.
    pub(crate) fn frames(&self) -> impl Iterator<Item = String> {
        self.frames.iter().map(|frame| frame.replace("{question}", ""))
    }

    /// Draws a question and its answer.
    pub(crate) fn draw(&self, random: &mut StdRng) -> (String, &str) {
        let answer = pick(&self.answers, random);
        let question = if answer.names.is_empty() {
            pick(&answer.questions, random).clone()
        } else {
            fill(pick::<String>(&self.templates, random), pick::<String>(&answer.names, random))
        };
        (self.vary(question, random), &answer.text)
    }

    /// Puts a question into a frame, lowers its case or drops its mark, each now and then.
    fn vary(&self, mut question: String, random: &mut StdRng) -> String {
        if random.random_bool(0.3) {
            question = pick(&self.frames, random).replace("{question}", &question);
        }
        if random.random_bool(0.15) {
            question = question.to_lowercase();
        }
        if random.random_bool(0.15) && question.ends_with(['?', '.']) {
            question.pop();
        }
        question
    }
}

/// Lines with content, and their numbers.
fn meaningful(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().zip(1..).map(|(line, number)| (number, line.trim_end()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Fills a template with a name that has its article.
fn fill(template: &str, name: &str) -> String {
    let bare = ["an ", "a ", "the "].iter().find_map(|article| name.strip_prefix(article)).unwrap_or(name);
    template.replace("{the}", name).replace("{bare}", bare)
}

fn pick<'a, T>(from: &'a [T], random: &mut StdRng) -> &'a T {
    from.choose(random).expect("the committed text has no empty lists")
}
