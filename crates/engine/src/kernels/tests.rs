//! Every kernel against candle's formats and sums in `f64`, with every set of instructions that is there.

use candle_core::quantized::{GgmlDType, ggml_file::qtensor_from_ggml};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use super::*;

/// Bytes of a matrix: all of their bits random, but for exponents that would make numbers too large to compare.
fn bytes(format: Format, outputs: usize, inputs: usize, random: &mut StdRng) -> Vec<u8> {
    let mut bytes = vec![0; format.bytes(outputs, inputs).unwrap()];
    random.fill_bytes(&mut bytes);
    // The upper byte of a binary16 between 0.0001 and 0.02, of either sign.
    let mut scale = |byte: &mut u8| *byte = random.random_range(0x08..0x24) | (*byte & 0x80);
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        match format {
            Format::F32 => block[3] = block[3] & 0x80 | 0x3e,
            Format::F16 => block[1] &= 0xbf,
            Format::Bf16 => block[1] = block[1] & 0x80 | 0x3e,
            Format::Q8_0 => scale(&mut block[1]),
            Format::Q4K => {
                scale(&mut block[1]);
                scale(&mut block[3]);
            }
            Format::Q6K => scale(&mut block[209]),
        }
    }
    bytes
}

/// The same weights by candle.
fn oracle(format: Format, outputs: usize, inputs: usize, bytes: &[u8]) -> Vec<Vec<f32>> {
    let dense = |kind| Tensor::from_raw_buffer(bytes, kind, &[outputs, inputs], &Device::Cpu);
    let quantised =
        |kind| qtensor_from_ggml(kind, bytes, vec![outputs, inputs], &Device::Cpu)?.dequantize(&Device::Cpu);
    let tensor = match format {
        Format::F32 => dense(DType::F32),
        Format::F16 => dense(DType::F16),
        Format::Bf16 => dense(DType::BF16),
        Format::Q8_0 => quantised(GgmlDType::Q8_0),
        Format::Q4K => quantised(GgmlDType::Q4K),
        Format::Q6K => quantised(GgmlDType::Q6K),
    };
    tensor.unwrap().to_dtype(DType::F32).unwrap().to_vec2().unwrap()
}

fn product(matrix: &Matrix, values: &[f32], threads: &Threads) -> Vec<f32> {
    let inputs = Activations::new(values.to_vec(), matrix.inputs());
    let mut into = vec![f32::NAN; inputs.rows() * matrix.outputs()];
    matrix.multiply(&inputs, &mut into, threads);
    into
}

/// Holds all the products of `values` to sums in `f64`. How far they may be off follows from the rounding of the values
/// to 8 bits, if the format asks for it and `whole` numbers do not make it exact, and of the sums to 24.
fn check(format: Format, outputs: usize, values: &[f32], inputs: usize, whole: bool, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let bytes = bytes(format, outputs, inputs, &mut random);
    let weights = oracle(format, outputs, inputs, &bytes);
    for set in InstructionSet::available() {
        let threads = Threads::with_instructions(2, set);
        let matrix = Matrix::new(format, outputs, inputs, &bytes, &threads).unwrap();
        let products = product(&matrix, values, &threads);
        for (row, (values, products)) in
            values.chunks_exact(inputs).zip(products.chunks_exact(outputs)).enumerate()
        {
            for (output, (weights, product)) in weights.iter().zip(products).enumerate() {
                let terms =
                    weights.iter().zip(values).map(|(one, other)| f64::from(*one) * f64::from(*other));
                let (exact, size) =
                    terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                let rounded =
                    if format.block() == 1 || whole { 0.0 } else { rounding(format, weights, values) };
                // A block of Q4_K is a difference of two sums that may be much larger than it.
                let bound = rounded + 2e-6 * size * if format == Format::Q4K { 30.0 } else { 1.0 } + 1e-30;
                let error = (f64::from(*product) - exact).abs();
                let what = format!("{format:?} {outputs}×{inputs} {} row {row} output {output}", set.name());
                assert!(error <= bound, "{what}: {product} instead of {exact}, bound {bound}");
            }
        }
    }
}

/// What the rounding of numbers to 127ths of the largest of their block can change at most.
fn rounding(format: Format, weights: &[f32], values: &[f32]) -> f64 {
    let blocks = weights.chunks(format.block()).zip(values.chunks(format.block()));
    let errors = blocks.map(|(weights, values)| {
        let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let weights: f64 = weights.iter().map(|weight| f64::from(weight.abs())).sum();
        f64::from(largest) / 254.0 * 1.00001 * weights
    });
    errors.sum()
}

#[test]
fn rows_are_those_of_candle_bit_for_bit() {
    for format in Format::ALL {
        for (outputs, blocks) in [(1, 1), (16, 2), (37, 3), (5, 7)] {
            let mut random = StdRng::seed_from_u64(7);
            let inputs = blocks * format.block();
            let bytes = bytes(format, outputs, inputs, &mut random);
            let matrix = Matrix::new(format, outputs, inputs, &bytes, &Threads::new(2)).unwrap();
            for (index, expected) in oracle(format, outputs, inputs, &bytes).iter().enumerate() {
                let mut row = vec![f32::NAN; inputs];
                matrix.row(index, &mut row);
                let same = row.iter().zip(expected).all(|(one, other)| one.to_bits() == other.to_bits());
                assert!(same, "{format:?} row {index}: {row:?} instead of {expected:?}");
            }
        }
    }
}

#[test]
fn a_packed_matrix_takes_at_most_a_tenth_more_than_its_file() {
    for format in Format::ALL {
        let bytes = vec![0; format.bytes(4096, 2048).unwrap()];
        let matrix = Matrix::new(format, 4096, 2048, &bytes, &Threads::new(2)).unwrap();
        assert!(matrix.bytes() * 10 <= bytes.len() * 11, "{format:?}: {} of {}", matrix.bytes(), bytes.len());
    }
}

#[test]
fn bytes_of_another_shape_are_refused() {
    let threads = Threads::new(1);
    for format in Format::ALL {
        let (outputs, inputs) = (3, format.block() * 2);
        let bytes = vec![0; format.bytes(outputs, inputs).unwrap()];
        assert!(Matrix::new(format, outputs, inputs, &bytes, &threads).is_ok());
        let refused =
            |outputs, inputs, bytes: &[u8]| Matrix::new(format, outputs, inputs, bytes, &threads).err();
        let (expected, found) = (bytes.len(), bytes.len() - 1);
        assert_eq!(refused(3, inputs, &bytes[1..]), Some(MatrixError::Length { expected, found }));
        assert_eq!(refused(0, inputs, &[]), Some(MatrixError::Shape { format, outputs: 0, inputs }));
        assert_eq!(refused(3, 0, &[]), Some(MatrixError::Shape { format, outputs, inputs: 0 }));
        let huge = MatrixError::Shape { format, outputs: usize::MAX, inputs };
        assert_eq!(refused(usize::MAX, inputs, &bytes), Some(huge));
        if format.block() > 1 {
            let torn = MatrixError::Shape { format, outputs, inputs: inputs + 1 };
            assert_eq!(refused(3, inputs + 1, &bytes), Some(torn));
        }
    }
}

#[test]
#[should_panic(expected = "numbers of a row")]
fn rows_of_another_length_are_not_multiplied() {
    let threads = Threads::new(1);
    let matrix = Matrix::new(Format::F32, 1, 2, &[0; 8], &threads).unwrap();
    matrix.multiply(&Activations::new(vec![0.0; 3], 3), &mut [0.0], &threads);
}

#[test]
#[should_panic(expected = "numbers of the products")]
fn products_need_their_place() {
    let threads = Threads::new(1);
    let matrix = Matrix::new(Format::F32, 1, 2, &[0; 8], &threads).unwrap();
    matrix.multiply(&Activations::new(vec![0.0; 4], 2), &mut [0.0], &threads);
}

#[test]
fn rows_are_shared_by_matrices_of_all_formats_and_by_other_threads() {
    let values: Vec<f32> = (0..7 * 256).map(|index| (index % 97) as f32 / 97.0 - 0.5).collect();
    let rows = Activations::new(values.clone(), 256);
    let mut sets = InstructionSet::available();
    sets.reverse();
    let first = Threads::with_instructions(2, sets[0]);
    for format in Format::ALL {
        let bytes = bytes(format, 20, 256, &mut StdRng::seed_from_u64(5));
        let matrix = Matrix::new(format, 20, 256, &bytes, &first).unwrap();
        let expected = product(&matrix, &values, &first);
        for set in &sets {
            let mut found = vec![0.0; 7 * 20];
            matrix.multiply(&rows, &mut found, &Threads::with_instructions(1, *set));
            assert_eq!(found, expected, "{format:?} after {}", set.name());
        }
    }
}

#[test]
fn no_rows_have_no_products() {
    let threads = Threads::new(2);
    let matrix = Matrix::new(Format::Q8_0, 1, 32, &[0; 34], &threads).unwrap();
    assert!(product(&matrix, &[], &threads).is_empty());
}

#[test]
fn a_product_is_the_same_whatever_is_computed_with_it() {
    for format in Format::ALL {
        let (outputs, inputs) = (53, if format.block() == 1 { 331 } else { 768 });
        let mut random = StdRng::seed_from_u64(11);
        let bytes = bytes(format, outputs, inputs, &mut random);
        let values: Vec<f32> = (0..40 * inputs).map(|_| random.random_range(-3.0..3.0)).collect();
        for set in InstructionSet::available() {
            let alone = Threads::with_instructions(1, set);
            let matrix = Matrix::new(format, outputs, inputs, &bytes, &alone).unwrap();
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            let single: Vec<u32> =
                values.chunks(inputs).flat_map(|row| bits(&product(&matrix, row, &alone))).collect();
            for count in 1..=3 {
                let threads = Threads::with_instructions(count, set);
                for rows in (1..=27).chain([40]) {
                    let start = (40 - rows) / 2;
                    let together = product(&matrix, &values[start * inputs..][..rows * inputs], &threads);
                    let expected = &single[start * outputs..][..rows * outputs];
                    let what = format!("{format:?} {} {rows} rows, {count} threads", set.name());
                    assert!(bits(&together) == expected, "{what}");
                }
            }
        }
    }
}

#[test]
fn what_is_not_a_number_stays_in_its_row() {
    let threads = Threads::new(1);
    for format in Format::ALL {
        let mut random = StdRng::seed_from_u64(3);
        let bytes = bytes(format, 17, 256, &mut random);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![0.5; 3 * 256];
            values[256 + 77] = bad;
            for set in InstructionSet::available() {
                let threads = Threads::with_instructions(1, set);
                let matrix = Matrix::new(format, 17, 256, &bytes, &threads).unwrap();
                let products = product(&matrix, &values, &threads);
                let finite = products.chunks(17).map(|row| row.iter().all(|value| value.is_finite()));
                assert_eq!(finite.collect::<Vec<_>>(), [true, false, true], "{format:?} {}", set.name());
            }
        }
    }
    // Blocks of nothing, and of what is next to nothing.
    let matrix = Matrix::new(Format::Q8_0, 1, 64, &[0x11; 68], &threads).unwrap();
    assert_eq!(product(&matrix, &[0.0; 64], &threads), [0.0]);
    assert!(product(&matrix, &[1e-40; 64], &threads)[0].abs() < 1e-30);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whole numbers up to 127, which 8 bits hold exactly.
    #[test]
    fn products_of_whole_numbers_are_exact(
        outputs in 1usize..70, blocks in 1usize..6, rows in 1usize..15, odd in 0usize..16, seed: u64,
    ) {
        for format in Format::ALL {
            let inputs = if format.block() == 1 { blocks * 16 + odd } else { blocks * format.block() };
            let mut random = StdRng::seed_from_u64(seed);
            let mut values: Vec<f32> =
                (0..rows * inputs).map(|_| f32::from(random.random_range(-127_i8..=127))).collect();
            for block in values.chunks_mut(32) {
                block[0] = if random.random() { 127.0 } else { -127.0 };
            }
            check(format, outputs, &values, inputs, true, seed);
        }
    }

    #[test]
    fn products_are_as_near_as_8_bits_allow(
        outputs in 1usize..40, blocks in 1usize..6, rows in 1usize..15, odd in 0usize..16, seed: u64,
    ) {
        for format in Format::ALL {
            let inputs = if format.block() == 1 { blocks * 16 + odd } else { blocks * format.block() };
            let mut random = StdRng::seed_from_u64(seed);
            let values: Vec<f32> = (0..rows * inputs).map(|_| random.random_range(-2.0..2.0)).collect();
            check(format, outputs, &values, inputs, false, seed);
        }
    }
}
