//! `docs/errors.md`: every stable code, and that none is missing.

use crate::source::{Literal, Scanned, Source, sources};
use crate::{cell, hold};
use confide_verifier::{Rule, rules};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

type Codes = &'static [(&'static str, &'static str, &'static str)];

/// A table of codes.
struct Section {
    heading: &'static str,
    /// Who shows the codes, and where.
    appear: &'static str,
    codes: Codes,
}

const SECTIONS: [Section; 16] = [
    Section {
        heading: "`confide`",
        appear: "Failures of the program that are no verdicts: in brackets at the end of the line `error:`. The exit \
                 status is 1 for what this machine lacks, 2 for wrong usage, 10 for records that do not hold, 20 for \
                 what this build does not support, 30 for malformed input.",
        codes: confide::CODES,
    },
    Section {
        heading: "Findings of `confide doctor`",
        appear: "What `confide doctor` looks at, in its order, each with the status `ok`, `warn`, `fail`, `not_applicable` or \
                 `not_run`; the second column says what is expected. The exit status is 10 where one fails, and \
                 where `doctor_tcb` or `doctor_appraisal` could not be run in a TDX guest that may ask services. A finding \
                 may say something more exact to do.",
        codes: confide::DOCTOR,
    },
    Section {
        heading: "Clients",
        appear: "What keeps a client from an answer: `confide chat`, `verify` and `record` show them in brackets, \
                 the local endpoint as `error.code` of an answer with status 400, 500, 502 or 504, the library as \
                 `ClientError::code`.",
        codes: confide_client::CODES,
    },
    Section {
        heading: "Attested channels",
        appear: "Of one connection to a guest, wherever those of clients appear: as `error.code` with status 502, or \
                 504 where time ran out.",
        codes: confide_channel::CODES,
    },
    Section {
        heading: "The local endpoint",
        appear: "Answers of `confide proxy`: `error.code` in the form of OpenAI's API; `listen_…` and `token_missing` in \
                 brackets on the terminal where it does not start.",
        codes: confide_client::proxy::CODES,
    },
    Section {
        heading: "Several instances",
        appear: "In brackets on the terminal where `confide proxy` does not start, with exit status 2. What else is \
                 wrong with its discovery file has the codes of configuration files.",
        codes: confide_client::fleet::CODES,
    },
    Section {
        heading: "Requests that are no HTTP",
        appear: "Answers of the local endpoint and of guests to what their HTTP library refuses: `error.code` with status \
                 400, 408, 414, 431 or 505.",
        codes: confide_service::refusals::CODES,
    },
    Section {
        heading: "`confide-guest`",
        appear: "Answers of a guest: `error.code` in the form of OpenAI's API, of the attestation endpoint, too. Those \
                 that keep a guest from starting stand in brackets in its last line.",
        codes: confide_guest::codes::CODES,
    },
    Section {
        heading: "`confide-broker`",
        appear: "Answers of a broker that are no success: `error.code` of a JSON object, with status 403 where it is a decision, \
                 which its audit log keeps; a guest whose evidence is refused is told the code of the check. Those of the program \
                 stand in brackets in its last line.",
        codes: confide_broker::codes::CODES,
    },
    Section {
        heading: "The engine",
        appear: "Of models and of requests to them: a guest's `error.code` where the request is to blame; else its log, \
                 and its last line where it does not start.",
        codes: confide_engine::codes::CODES,
    },
    Section {
        heading: "Attestation devices",
        appear: "Of quotes and measurement registers: in a guest's log, and in its last line where it does not start.",
        codes: confide_attester::CODES,
    },
    Section {
        heading: "Volumes",
        appear: "Of encrypted volumes: in a guest's last line where it does not open them, and of the broker's commands that \
                 pack and rotate.",
        codes: confide_volume::CODES,
    },
    Section {
        heading: "Egress",
        appear: "Of what the egress broker and the rules do not let through: in drop records, and as `error.code` of the broker's \
                 own answers to the workload. Those that begin with `egress`: in a guest's last line where its egress is not kept to \
                 its policy.",
        codes: confide_egress::CODES,
    },
    Section {
        heading: "Configuration files",
        appear: "Of the TOML file that `confide-guest` is started with, and of the one that settings of `confide` stand in: in \
                 the last line. The exit status is 1 where the file cannot be read, else 2. Of the discovery file of \
                 `confide proxy`: in brackets on the terminal, with the same exit statuses, or in a line of its standard \
                 error while it runs.",
        codes: confide_service::config::CODES,
    },
    Section {
        heading: "Logs",
        appear: "Of the settings of logs: in the last line of a program that does not start.",
        codes: confide_service::logging::CODES,
    },
    Section {
        heading: "Fetched endorsements",
        appear: "Of `confide collateral` and `confide rim`, and of everything else that fetches or staples: in brackets on \
                 the terminal with exit status 1, or 30 where a file holds no certificate or no object of a store, and \
                 in the log of a guest.",
        codes: confide_endorser::CODES,
    },
];

/// Texts that look like codes and are none.
const NO_CODES: &[(&str, &[&str])] = &[
    ("architectures of processors", &["x86_64"]),
    ("claims of NVIDIA's attestation service", &["eat_nonce"]),
    (
        "columns of the broker's database",
        &["created_at", "format_digest", "revoked_at", "verity_blocks", "verity_root", "verity_salt"],
    ),
    ("fields of egress policies", &["bytes_per_second", "total_bytes"]),
    (
        "metadata and tensors of model files",
        &[
            "attn_k",
            "attn_k_norm",
            "attn_norm",
            "attn_output",
            "attn_q",
            "attn_q_norm",
            "attn_v",
            "block_count",
            "context_length",
            "embedding_length",
            "expert_count",
            "feed_forward_length",
            "ffn_down",
            "ffn_gate",
            "ffn_norm",
            "ffn_up",
            "input_layernorm",
            "lm_head",
            "output_norm",
            "post_attention_layernorm",
            "token_embd",
        ],
    ),
    (
        "system calls",
        &[
            "add_key",
            "clock_adjtime",
            "clock_settime",
            "delete_module",
            "finit_module",
            "init_module",
            "io_uring_enter",
            "io_uring_register",
            "io_uring_setup",
            "kexec_file_load",
            "kexec_load",
            "mount_setattr",
            "move_mount",
            "name_to_handle_at",
            "open_by_handle_at",
            "open_tree",
            "perf_event_open",
            "pidfd_getfd",
            "pivot_root",
            "process_madvise",
            "process_vm_readv",
            "process_vm_writev",
            "request_key",
        ],
    ),
    (
        "parameters and types of OpenAI's API",
        &[
            "chat_completions",
            "frequency_penalty",
            "function_call",
            "image_url",
            "include_obfuscation",
            "include_usage",
            "input_audio",
            "logit_bias",
            "max_completion_tokens",
            "max_tokens",
            "parallel_tool_calls",
            "presence_penalty",
            "prompt_cache_key",
            "prompt_cache_retention",
            "reasoning_effort",
            "response_format",
            "safety_identifier",
            "service_tier",
            "stream_options",
            "tool_call_id",
            "tool_calls",
            "tool_choice",
            "top_logprobs",
            "top_p",
            "web_search_options",
        ],
    ),
    ("fields of lists of NVIDIA devices", &["driver_version", "vbios_version"]),
    (
        "functions of NSCQ",
        &["nscq_session_create", "nscq_session_path_observe", "nscq_session_set_input", "nscq_uuid_to_label"],
    ),
    ("fields of a TD report", &["tee_tcb_svn", "tee_tcb_svn_2"]),
    (
        "`error.type` of OpenAI's API",
        &["attestation_error", "invalid_request_error", "rate_limit_error", "server_error"],
    ),
    (
        "fields of config.json and of chat templates",
        &[
            "attention_bias",
            "chat_template",
            "head_dim",
            "hidden_size",
            "high_freq_factor",
            "intermediate_size",
            "low_freq_factor",
            "max_position_embeddings",
            "mlp_bias",
            "num_attention_heads",
            "num_hidden_layers",
            "num_key_value_heads",
            "original_max_position_embeddings",
            "quantization_config",
            "raise_exception",
            "use_sliding_window",
            "vocab_size",
        ],
    ),
    (
        "fields and values of our own files and verdicts",
        &[
            "advisory_ids",
            "author_key_digest",
            "drain_seconds",
            "family_id",
            "host_data",
            "id_key_digest",
            "image_id",
            "log_filter",
            "log_format",
            "max_in_flight",
            "not_run",
            "pccs_certificate",
            "registered_hardware",
            "rim_service",
            "shared_transcript",
            "signed_references",
        ],
    ),
    (
        "fields and values of LUKS2 headers",
        &["csum_alg", "hdr_offset", "json_size", "keyslots_size", "sector_size", "iv_tweak"],
    ),
    ("names in our sources", &["file_refresh", "hex_array", "hex_bytes", "one_or_many", "snake_case"]),
    (
        "names of the system",
        &["https_proxy", "no_proxy", "sev_guest", "sev_snp", "tdx_guest", "tdx_host_platform"],
    ),
    (
        "metrics",
        &[
            "confide_attestation_errors_total",
            "confide_attestation_seconds",
            "confide_collateral_left_seconds",
            "confide_discovery_used",
            "confide_egress_connections_total",
            "confide_egress_dropped_packets_total",
            "confide_egress_dropped_total",
            "confide_egress_locked",
            "confide_egress_refused_calls_total",
            "confide_egress_rule_bytes_total",
            "confide_egress_rule_connections",
            "confide_egress_rule_dropped_total",
            "confide_egress_unlogged_total",
            "confide_failovers_total",
            "confide_first_byte_seconds",
            "confide_in_flight",
            "confide_instance_state",
            "confide_quarantines_total",
            "confide_received_bytes_total",
            "confide_sent_bytes_total",
            "confide_unrecorded_refusals_total",
            "confide_verdict_age_seconds",
            "confide_verdict_evidence",
            "confide_verdict_left_seconds",
            "confide_verdicts_total",
        ],
    ),
    ("flags that go with others", &["sign_head"]),
    ("kinds of machines", &["snp_guest", "snp_host", "tdx_host"]),
];

/// Which evidence a check is about.
fn subject(rule: &Rule) -> &'static str {
    match rule.reference {
        _ if rule.code.starts_with("snp_") => "SEV-SNP reports",
        _ if ["device_", "rim_", "ocsp_", "gpu_evidence", "nras"]
            .iter()
            .any(|prefix| rule.code.starts_with(prefix)) =>
        {
            "GPUs and switches"
        }
        "docs/protocol/README.md, reference values" => "any evidence",
        reference if reference.starts_with("docs/protocol") => "evidence documents",
        "appraisal policy" => "what the policy asks for",
        _ => "TDX quotes, alone and in documents",
    }
}

fn page() -> String {
    let mut text = "# Codes of checks and errors\n\n\
        Written by `cargo xtask docs` from the code. Codes are stable: scripts may rely on them. A code stands in one place, \
        but for the few that a guest shares with `confide` or its local endpoint: what to do then differs.\n\n\
        ## Checks of a verdict\n\n\
        **Where**: in every verdict, as `code` of an entry of `checks`, with what was expected and found. The code of a \
        verdict, which `confide` and its local endpoint show as the code of the failure, is that of the first check that \
        failed. `confide verify`, `chat`, `record`, `replay` and `conformance` print verdicts, `confide proxy` answers \
        with them at `/_confide/verdicts/INSTANCE`. The exit status is 10 for rejected, 20 for unsupported, 30 for malformed \
        evidence; the local endpoint's status is 502.\n\n\
        | code | what must hold | of | what to do where it does not | standard and section |\n|---|---|---|---|---|\n"
        .to_owned();
    for rule in rules::ALL {
        let [expected, remedy, reference] = [rule.expected, rule.remedy, rule.reference].map(cell);
        let (code, subject) = (rule.code, subject(rule));
        writeln!(text, "| `{code}` | {expected} | {subject} | {remedy} | {reference} |").unwrap();
    }
    for Section { heading, appear, codes } in SECTIONS {
        write!(
            text,
            "\n## {heading}\n\n**Where**: {appear}\n\n| code | meaning | what to do |\n|---|---|---|\n"
        )
        .unwrap();
        for (code, meaning, what_to_do) in codes {
            writeln!(text, "| `{code}` | {} | {} |", cell(meaning), cell(what_to_do)).unwrap();
        }
    }
    text
}

/// Codes of every table.
fn documented() -> BTreeSet<&'static str> {
    let listed = SECTIONS.iter().flat_map(|section| section.codes.iter().map(|(code, ..)| *code));
    rules::ALL.iter().map(|rule| rule.code).chain(listed).collect()
}

#[test]
fn errors_md_is_what_the_code_says() {
    for Section { heading, codes, .. } in SECTIONS {
        let mut seen = BTreeSet::new();
        for (code, meaning, what_to_do) in codes {
            assert!(seen.insert(code), "{code} stands twice in {heading}");
            assert!(!meaning.is_empty() && !what_to_do.is_empty(), "{code} of {heading} lacks a text");
            assert!(is_word(code), "{code}");
        }
    }
    for code in documented() {
        let places: Vec<&str> = headings(code);
        let shared = matches!(places[..], ["`confide`" | "The local endpoint", "`confide-guest`"]);
        assert!(places.len() == 1 || shared, "{code} stands for several things: {places:?}");
    }
    hold("errors.md", &page());
}

/// The headings of the sections that list a code.
fn headings(code: &str) -> Vec<&'static str> {
    let lists = |codes: Codes| codes.iter().any(|(listed, ..)| *listed == code);
    let checks = rules::ALL.iter().any(|rule| rule.code == code).then_some("Checks of a verdict");
    let sections = SECTIONS.iter().filter(|section| lists(section.codes)).map(|section| section.heading);
    checks.into_iter().chain(sections).collect()
}

fn is_word(text: &str) -> bool {
    let plain = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_';
    text.starts_with(|one: char| one.is_ascii_lowercase()) && text.chars().all(plain)
}

/// Whether a literal looks like a code, wherever it stands: words joined by `_`, and no key of an object.
fn looks_like_a_code(literal: &Literal<'_>) -> bool {
    let (text, after) = (&literal.text, literal.after);
    let is_key = after.starts_with(':') && !after.starts_with("::");
    is_word(text) && text.contains('_') && !text.ends_with('_') && !is_key
}

/// Whether a literal stands where a code is given, so that a single word counts, too: as the field `code`, behind the
/// exit status of a failure, or in a function that gives codes.
fn stands_as_a_code(literal: &Literal<'_>, previous: Option<&str>) -> bool {
    let before = literal.before;
    let named = before.ends_with(|one: char| ":=".contains(one))
        && (word_before(&before[..before.len() - 1]) == "code"
            || before.ends_with("\"\":") && previous == Some("code"));
    let behind_status = before
        .strip_suffix(',')
        .map(|before| &before[..before.len() - word_before(before).len()])
        .is_some_and(|before| before.ends_with("Status::") || before.ends_with("StatusCode::"));
    named || behind_status || before.rfind("fn code(").is_some_and(|at| is_open(&before[at..]))
}

/// Whether the first block of some code has begun and not ended.
fn is_open(code: &str) -> bool {
    let mut depth = 0_usize;
    for brace in code.chars().filter(|one| "{}".contains(*one)) {
        match (brace, depth) {
            ('{', _) => depth += 1,
            (_, 0 | 1) => return false,
            _ => depth -= 1,
        }
    }
    depth > 0
}

/// The identifier at the end of some code.
fn word_before(code: &str) -> &str {
    let is_part = |one: char| one.is_alphanumeric() || one == '_';
    &code[code.trim_end_matches(is_part).len()..]
}

/// What a source names as codes, by the looks and by the place.
fn codes_in(source: &str) -> BTreeSet<String> {
    let scanned = Scanned::of(source);
    let mut found = BTreeSet::new();
    let mut previous: Option<String> = None;
    for literal in scanned.literals() {
        // JSON that is written as text.
        let inner = literal.text.split("\"code\":\"").skip(1).filter_map(|rest| rest.split('"').next());
        found.extend(inner.filter(|text| is_word(text)).map(str::to_owned));
        let is_one = looks_like_a_code(&literal)
            || is_word(&literal.text) && stands_as_a_code(&literal, previous.as_deref());
        if is_one {
            found.insert(literal.text.clone());
        }
        previous = Some(literal.text);
    }
    found
}

#[test]
fn every_code_in_the_sources_is_documented() {
    let documented = documented();
    let excepted: BTreeSet<&str> = NO_CODES.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let mut found = BTreeSet::new();
    let mut missing = Vec::new();
    for Source { path, text, .. } in sources() {
        for code in codes_in(&text) {
            if !documented.contains(code.as_str()) && !excepted.contains(code.as_str()) {
                missing.push(format!("{}: {code}", path.display()));
            }
            found.insert(code);
        }
    }
    assert!(missing.is_empty(), "neither in a table of codes nor in NO_CODES: {missing:#?}");
    let stale: Vec<_> = excepted.iter().filter(|name| !found.contains(**name)).collect();
    assert!(stale.is_empty(), "in NO_CODES, and not in the sources any more: {stale:?}");
    let both: Vec<_> = excepted.intersection(&documented).collect();
    assert!(both.is_empty(), "a code and no code: {both:?}");
}

#[test]
fn every_documented_code_is_given_by_some_source() {
    let scanned: Vec<Scanned> = sources().iter().map(|source| Scanned::of(&source.text)).collect();
    let count_of = |name: &str| scanned.iter().map(|scanned| scanned.count_of(name)).sum::<usize>();
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for scanned in &scanned {
        // A table that is read by place gives all its rows.
        let each = if scanned.code.contains("=CODES[") { 2 } else { 1 };
        for literal in scanned.literals().filter(|literal| is_word(&literal.text)) {
            // `NAME = "code"`: uses of the constant are uses of the code.
            let constant = literal.before.strip_suffix('=').map(word_before);
            let constant = constant.filter(|name| name.starts_with(|one: char| one.is_ascii_uppercase()));
            *uses.entry(literal.text).or_default() += constant.map_or(each, count_of);
        }
    }
    let in_use = |code: &str| uses.get(code).is_some_and(|uses| *uses >= 2);
    let unused: Vec<_> = documented().into_iter().filter(|code| !in_use(code)).collect();
    assert!(unused.is_empty(), "documented, and given by no source: {unused:?}");
}

#[test]
fn codes_are_found_in_every_form_that_sources_use() {
    let source = r##"
        // Comments and texts: "no_code".
        Failure::new(Status::Internal, "odd", error); (Status::Usage, "flag_odd"); println!("a text");
        impl E { pub fn code(&self) -> &'static str { match self { Self::A => "single", Self::B => other("x y") } } }
        fn other() { match "neither" { _ => "nor" } }
        Fault { code: "field", kind: "kind" }; let code = "bound"; json!({ "code": "given", "no_type": "type" });
        let body = r#"{"error":{"type":"server","code":"written"}}"#;
        ODD = "by_constant", "What it means.";
    "##;
    let expected =
        ["bound", "by_constant", "field", "flag_odd", "given", "odd", "single", "written"].map(str::to_owned);
    assert_eq!(codes_in(source), BTreeSet::from(expected));
}
