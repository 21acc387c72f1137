//! Speed of the kernels: products of 1, 8 and 128 rows with matrices of 5632 × 2048, of which there are more than fit
//! into the caches, beside candle's and beside what the memory gives.
//!
//! One line for each figure: name; gigabytes of weights and thousand millions of operations a second, and how much of
//! the bandwidth of reading that is, in the median round; candle's operations a second.
//!
//! `kernels [THREADS] [FORMAT]...` measures that many threads (all processors) and those formats (all).
#![expect(clippy::print_stdout, reason = "a program that measures")]

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use candle_core::quantized::{GgmlDType, QMatMul, ggml_file::qtensor_from_ggml};
use candle_core::{DType, Device, Module, Tensor};
use confide_engine::kernels::{Activations, Format, InstructionSet, Matrix, Threads};

const OUTPUTS: usize = 5632;
const INPUTS: usize = 2048;
/// Bytes of the matrices of a round, as a file has them: many times the caches.
const SET: usize = 320 << 20;
const ROWS: [usize; 3] = [1, 8, 128];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    let given = arguments.first().and_then(|one| one.parse().ok());
    let count = given.unwrap_or(std::thread::available_parallelism()?.get());
    let formats = Format::ALL.into_iter().filter(|format| {
        let names = &arguments[usize::from(given.is_some())..];
        names.is_empty() || names.iter().any(|name| name == format.name())
    });
    let threads = Threads::new(count);
    let bandwidth = bandwidth(&threads);
    println!("{} threads, {}: memory is read at {bandwidth:.1} GB/s", count, InstructionSet::best().name());
    for format in formats {
        let bytes = weights(format);
        let matrices: Vec<Matrix> = (0..SET.div_ceil(bytes.len()))
            .map(|_| Matrix::new(format, OUTPUTS, INPUTS, &bytes, &threads))
            .collect::<Result<_, _>>()?;
        let own = ROWS.map(|rows| measure(rows, |values| own(&matrices, values, &threads)));
        let count = matrices.len();
        drop(matrices);
        let peers = peer(format, &bytes, count);
        for ((rows, seconds), peer) in ROWS.into_iter().zip(own).zip(peers) {
            let seconds = seconds / count as f64;
            let gigabytes = bytes.len() as f64 / seconds / 1e9;
            let operations = |seconds: f64| 2.0 * (rows * OUTPUTS * INPUTS) as f64 / seconds / 1e9;
            let peer =
                peer.map_or("none".to_owned(), |peer| format!("{:.0}", operations(peer / count as f64)));
            println!(
                "{}, {rows} rows\t{gigabytes:.1} GB/s\t{:.0} GFLOP/s\t{:.2} of the bandwidth\tcandle {peer} GFLOP/s",
                format.name(),
                operations(seconds),
                gigabytes / bandwidth,
            );
        }
    }
    Ok(())
}

/// Gigabytes a second that all threads together read, in the best of some rounds.
fn bandwidth(threads: &Threads) -> f64 {
    let memory = vec![1_u64; 1 << 27];
    let parts: Vec<&[u64]> = memory.chunks(1 << 14).collect();
    let round = || {
        let started = Instant::now();
        threads.run(parts.len(), &|part| {
            black_box(parts[part].iter().fold(0_u64, |sum, value| sum.wrapping_add(*value)));
        });
        started.elapsed().as_secs_f64()
    };
    let best = (0..8).map(|_| round()).fold(f64::INFINITY, f64::min);
    (memory.len() * size_of::<u64>()) as f64 / best / 1e9
}

/// Weights whose scales are binary16 numbers like those of real models, and whose other bits are anything.
fn weights(format: Format) -> Vec<u8> {
    let length = format.bytes(OUTPUTS, INPUTS).unwrap_or_default();
    let mut bytes: Vec<u8> =
        (0..length as u64).map(|index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        match format {
            Format::F32 => block[3] = 0x3c,
            Format::F16 | Format::Q8_0 => block[1] = 0x20,
            Format::Bf16 => block[1] = 0x3c,
            Format::Q4K => (block[1], block[3]) = (0x10, 0x10),
            _ => block[209] = 0x10,
        }
    }
    bytes
}

/// Seconds of the median of some rounds.
fn measure(rows: usize, mut round: impl FnMut(&[f32])) -> f64 {
    let values: Vec<f32> = (0..rows * INPUTS).map(|index| (index % 251) as f32 / 251.0 - 0.5).collect();
    round(&values);
    let mut seconds: Vec<f64> = (0..7)
        .map(|_| {
            let started = Instant::now();
            round(&values);
            started.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn own(matrices: &[Matrix], values: &[f32], threads: &Threads) {
    let mut into = vec![0.0; values.len() / INPUTS * OUTPUTS];
    for matrix in matrices {
        matrix.multiply(&Activations::new(values.to_vec(), INPUTS), &mut into, threads);
        black_box(&mut into);
    }
}

/// Seconds that candle takes for as many matrices, where it can multiply with them.
fn peer(format: Format, bytes: &[u8], count: usize) -> [Option<f64>; 3] {
    let dense =
        |kind| Tensor::from_raw_buffer(bytes, kind, &[OUTPUTS, INPUTS], &Device::Cpu).map(QMatMul::Tensor);
    let quantised =
        |kind| QMatMul::from_qtensor(qtensor_from_ggml(kind, bytes, vec![OUTPUTS, INPUTS], &Device::Cpu)?);
    let (kind, matrices): (_, candle_core::Result<Vec<QMatMul>>) = match format {
        Format::F32 => (DType::F32, (0..count).map(|_| dense(DType::F32)).collect()),
        Format::F16 => (DType::F16, (0..count).map(|_| dense(DType::F16)).collect()),
        Format::Q8_0 => (DType::F32, (0..count).map(|_| quantised(GgmlDType::Q8_0)).collect()),
        Format::Q4K => (DType::F32, (0..count).map(|_| quantised(GgmlDType::Q4K)).collect()),
        Format::Q6K => (DType::F32, (0..count).map(|_| quantised(GgmlDType::Q6K)).collect()),
        _ => return [None; 3],
    };
    let Ok(matrices) = matrices else { return [None; 3] };
    ROWS.map(|rows| {
        let mut failed = false;
        let seconds = measure(rows, |values| {
            let product = |matrix: &QMatMul| {
                matrix.forward(&Tensor::from_slice(values, (rows, INPUTS), &Device::Cpu)?.to_dtype(kind)?)
            };
            for matrix in &matrices {
                failed |= black_box(product(matrix)).is_err();
            }
        });
        (!failed).then_some(seconds)
    })
}
