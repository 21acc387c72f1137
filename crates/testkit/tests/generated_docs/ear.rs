//! `docs/ear.md`: which checks each claim rests on.

use crate::hold;
use confide_verifier::ear::{BASES, UNCLAIMED};
use std::fmt::Write as _;

#[test]
fn the_mapping_to_ear_claims_is_documented() {
    let mut text = "# Verdicts as EAR claims\n\n\
        `--format ear` prints a verdict as the claims of draft-ietf-rats-ear-04, unsigned JSON: `eat_profile` is \
        `tag:ietf.org,2026:rats/ear#04`, `iat` the time of the appraisal, `exp` the verdict's `valid_until`. The submodule \
        of the CPU is named after the platform (`tdx`, `sev-snp`; `evidence` where nothing could be read), that of all \
        devices together `nvidia`.\n\n\
        A claim is never stronger than the checks. It is affirming only if every check of its row has passed: a check \
        that is waived or did not run leaves the claim out. What only some evidence states counts where it is there. \
        What a policy may ask for besides, such as a list of platforms or an age, counts where the policy asks. `ear_status` of a submodule is `affirming` only if all of \
        its claims are; `contraindicated` wherever the evidence was rejected; `none` where a claim is left out or the \
        evidence could not be read. `ear_verifier_claims` names what failed, was waived or did not run.\n\n\
        ## Affirming claims\n\n\
        | submodule | claim | value | meaning | checks | where stated | where asked for |\n\
        |---|---|---:|---|---|---|---|\n"
        .to_owned();
    for basis in BASES {
        let [rules, stated, asked] = [basis.rules, basis.stated, basis.asked].map(|rules| {
            let codes: Vec<String> = rules.iter().map(|rule| format!("`{}`", rule.code)).collect();
            codes.join(", ")
        });
        let (submodule, claim, value, meaning) = (basis.submodule, basis.claim, basis.value, basis.meaning);
        writeln!(text, "| `{submodule}` | `{claim}` | {value} | {meaning} | {rules} | {stated} | {asked} |")
            .unwrap();
    }
    text.push_str("\n## Checks of no claim\n\n| check | why |\n|---|---|\n");
    for (rule, why) in UNCLAIMED {
        writeln!(text, "| `{}` | {why} |", rule.code).unwrap();
    }
    text.push_str(
        "\n## Other claims\n\n\
        | claim | value | where |\n|---|---:|---|\n\
        | `hardware` | 99 | a signature of the evidence itself does not hold; no other claim is made then |\n\
        | `hardware` | 97 | the root is not pinned, the evidence is SIMULATED, or no TCB level matches; no other claim is made then |\n\
        | `hardware` | 96 | a certificate or the TCB is revoked, or the list that would say so is missing |\n\
        | `hardware` | 32 | any other TCB status than `UpToDate`; SEV-SNP firmware below a floor or without a mitigation that the policy asks for |\n\
        | `hardware` | 1 | the evidence is malformed or of an unsupported format |\n\
        | `hardware` | 0 | anything else that keeps the hardware from being affirmed |\n\
        | `configuration` | 96 | a check of the configuration failed |\n\
        | `configuration` | 32 | the TCB status says that configuration is needed |\n\
        | `executables` | 33 | a measurement is none of the reference values |\n\
        | `runtime-opaque` | 96 | the host can debug or migrate the TD or guest, whatever the policy says |\n\n\
        Never claimed: `instance-identity`, `file-system`, `storage-opaque`, `sourced-data`.\n",
    );
    hold("ear.md", &text);
}
