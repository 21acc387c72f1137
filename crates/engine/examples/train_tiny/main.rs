//! Trains the tiny model of `fixtures/models/tiny` from the text beside it and writes it there:
//! `cargo run -p confide-engine --example train_tiny [-- OUTPUT_FOLDER [STEPS]]`.
//!
//! Seed, text and order are fixed, and every file but the weights is the same each time; the sums of a matrix product depend on processor and thread count, so
//! that weights differ in their last bits between machines.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

mod files;
mod network;
mod text;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Error, Result, ensure};
use candle_core::{Device, Tensor};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW, loss};
use files::{END, PAD, START, Shape, files, train_tokenizer};
use network::Network;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use text::{SYSTEM, Text};
use tokenizers::Tokenizer;

const SEED: u64 = 20_261_121;
const STEPS: usize = 800;
const BATCH: usize = 16;
const RATE: f64 = 3e-3;
const WARM_UP: f64 = 40.0;

fn main() -> Result<()> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/tiny");
    let mut arguments = std::env::args().skip(1);
    let output = arguments.next().map_or_else(|| fixture.clone(), PathBuf::from);
    let steps = arguments.next().map_or(Ok(STEPS), |steps| steps.parse()).context("STEPS is a number")?;
    fs::create_dir_all(&output)?;
    let read = |name: &str| fs::read_to_string(fixture.join(name)).with_context(|| name.to_owned());
    let text = Text::parse(&read("dialogues.txt")?, &read("templates.txt")?)?;

    let start = Instant::now();
    let tokenizer = train_tokenizer(&text)?;
    let shape = Shape::of(&tokenizer);
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
    for (name, content) in files(tokenizer, shape)? {
        fs::write(output.join(name), content)?;
    }
    candle_core::safetensors::save(&network.stored()?, output.join("model.safetensors"))?;
    Ok(())
}
