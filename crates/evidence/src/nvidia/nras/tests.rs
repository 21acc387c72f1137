use super::*;

/// base64url without padding, by bits.
fn encoded(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let letter = |six: &[u8]| {
        let value = (0..6).fold(0, |value, at| value << 1 | six.get(at).copied().unwrap_or(0));
        char::from(LETTERS[usize::from(value)])
    };
    bits.chunks(6).map(letter).collect()
}

const HEADER: &str = r#"{"kid":"k","alg":"ES384"}"#;
const OVERALL: &str = r#"{"sub":"S","x-nvidia-ver":"3.0","iss":"I","eat_nonce":"NONCE","iat":1,"nbf":2,"exp":3,"x-nvidia-overall-att-result":true,"submods":{"GPU-0":["DIGEST",["SHA-256","NONCE"]]}}"#;
const DEVICE: &str = r#"{"iss":"I","eat_nonce":"NONCE","iat":1,"nbf":2,"exp":3,"ueid":"258","measres":"success","secboot":true,"dbgstat":"disabled","x-nvidia-gpu-attestation-report-nonce-match":true,"x-nvidia-gpu-attestation-report-signature-verified":true,"x-nvidia-gpu-driver-version":"1","x-nvidia-gpu-vbios-version":"2","x-nvidia-gpu-driver-rim-cert-chain":{"x-nvidia-cert-status":"valid","x-nvidia-cert-ocsp-status":"good"},"x-nvidia-attestation-warning":null,"of-later":{"a":[]}}"#;

fn token(header: &str, claims: &str) -> String {
    let claims = claims.replace("NONCE", &"11".repeat(32));
    format!("{}.{}.{}", encoded(header.as_bytes()), encoded(claims.as_bytes()), encoded(&[7; 96]))
}

fn answer(overall: &str, name: &str, device: &str) -> String {
    format!(r#"[["JWT","{overall}"],{{"{name}":"{device}"}}]"#)
}

fn honest() -> String {
    answer(&token(HEADER, OVERALL), "GPU-0", &token(HEADER, DEVICE))
}

fn told(json: &str) -> String {
    NrasAnswer::parse(json.as_bytes()).map_or_else(|error| error.to_string(), |_| "read".to_owned())
}

/// What comes of a device's token in place of the honest one.
fn of_device(header: &str, claims: &str) -> Result<NrasAnswer, NrasError> {
    NrasAnswer::parse(answer(&token(HEADER, OVERALL), "GPU-0", &token(header, claims)).as_bytes())
}

#[test]
fn an_honest_answer_is_read() {
    let read = NrasAnswer::parse(honest().as_bytes()).unwrap();
    let Overall { subject, result, digests, stamp, token, .. } = &read.overall;
    assert_eq!((subject.as_str(), *result, token.kid.as_str()), ("S", true, "k"));
    assert_eq!((stamp.issued_at, stamp.not_before, stamp.expires), (1, 2, 3));
    assert_eq!((stamp.nonce, token.signature), ([0x11; 32], [7; 96]));
    assert_eq!(digests.values().collect::<Vec<_>>(), [&[0x11; 32]]);
    let (signed, _) = token.compact.rsplit_once('.').unwrap();
    assert_eq!(token.signed(), signed.as_bytes());
    let [device] = &read.devices[..] else { panic!("one device") };
    assert_eq!((device.name.to_string().as_str(), &device.serial[..]), ("GPU-0", &[1, 2][..]));
    assert_eq!((device.measurements.as_str(), device.signature, device.warning), ("success", true, false));
    assert_eq!((device.driver.as_deref(), device.firmware.as_str()), (Some("1"), "2"));
    assert!(device.against.is_empty(), "{:?}", device.against);
}

#[test]
fn another_algorithm_than_es384_is_refused_by_its_name() {
    for algorithm in ["none", "None", "HS256", "ES256", "RS256", "es384", ""] {
        let header = format!(r#"{{"kid":"k","alg":"{algorithm}"}}"#);
        let error = of_device(&header, DEVICE).unwrap_err();
        assert!(error.is_unsupported(), "{algorithm}");
        assert!(error.to_string().contains(&format!("GPU-0: signed with {algorithm:?}")), "{error}");
    }
    // Such a token has no signature: what it says of itself comes first.
    let unsigned = format!("{}.{}.", encoded(br#"{"alg":"none"}"#), encoded(DEVICE.as_bytes()));
    let error = NrasAnswer::parse(answer(&unsigned, "GPU-0", "x").as_bytes()).unwrap_err();
    assert!(error.is_unsupported() && error.to_string().contains("none"), "{error}");
}

#[test]
fn a_header_says_algorithm_key_and_type_alone() {
    assert!(of_device(r#"{"typ":"JWT","kid":"k","alg":"ES384"}"#, DEVICE).is_ok());
    let long = format!(r#"{{"kid":"{}","alg":"ES384"}}"#, "k".repeat(MAX_KEY_ID + 1));
    for header in [
        r#"{"kid":"k","alg":"ES384","crit":["b64"],"b64":false}"#,
        r#"{"kid":"k","alg":"ES384","jwk":{}}"#,
        r#"{"kid":"k","alg":"ES384","x5c":[]}"#,
        r#"{"kid":"k","alg":"ES384","jku":"https://attacker.invalid"}"#,
        r#"{"kid":"k","alg":"ES384","alg":"ES384"}"#,
        r#"{"kid":"k","kid":"j","alg":"ES384"}"#,
        r#"{"kid":"k","alg":"ES384","typ":"JWE"}"#,
        r#"{"kid":"","alg":"ES384"}"#,
        r#"{"kid":"a b","alg":"ES384"}"#,
        r#"{"kid":1,"alg":"ES384"}"#,
        r#"{"alg":"ES384"}"#,
        r#"{"kid":"k"}"#,
        r#"["kid"]"#,
        "",
        &long,
    ] {
        let error = of_device(header, DEVICE).unwrap_err();
        assert!(matches!(error, NrasError::Token { .. }) && !error.is_unsupported(), "{header}: {error}");
    }
}

#[test]
fn a_token_has_three_parts_in_base64url() {
    let [header, claims] = [HEADER, DEVICE].map(|part| encoded(part.as_bytes()));
    let signature = encoded(&[7; 96]);
    for compact in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}.{signature}."),
        format!("{header}.{claims}.{signature}.{signature}"),
        format!("{header}.{claims}.{}", encoded(&[7; 95])),
        format!("{header}.{claims}.{}", encoded(&[7; 97])),
        format!("{header}.{claims}.{signature}="),
        format!("{header}.{claims}\\n.{signature}"),
        format!("{header}.{}.{signature}", encoded(b"\xff")),
        format!("{header}.{}.{signature}", encoded(b"{}{}")),
        format!("{header}.{}.{signature}", "A".repeat(MAX_NRAS_TOKEN)),
    ] {
        let error =
            NrasAnswer::parse(answer(&token(HEADER, OVERALL), "GPU-0", &compact).as_bytes()).unwrap_err();
        assert!(matches!(error, NrasError::Token { .. }), "{compact}: {error}");
    }
}

#[test]
fn claims_are_each_there_once_and_of_their_form() {
    for (from, to) in [
        (r#""iss":"I","#, ""),
        (r#""iss":"I""#, r#""iss":1"#),
        (r#""iss":"I""#, r#""iss":"I","iss":"J""#),
        (r#""eat_nonce":"NONCE""#, r#""eat_nonce":"11""#),
        (r#""eat_nonce":"NONCE""#, r#""eat_nonce":["NONCE"]"#),
        (r#""exp":3"#, r#""exp":3.5"#),
        (r#""exp":3"#, r#""exp":-1"#),
        (r#""exp":3"#, r#""exp":253402300800"#),
        (r#""exp":3,"#, ""),
        (r#""iat":1,"#, ""),
        (r#""nbf":2,"#, ""),
        (r#""ueid":"258""#, r#""ueid":258"#),
        (r#""ueid":"258""#, r#""ueid":"0258""#),
        (r#""ueid":"258""#, r#""ueid":"+258""#),
        (r#""ueid":"258""#, r#""ueid":"""#),
        (r#""ueid":"258""#, r#""ueid":"0x102""#),
        (r#""measres":"success","#, ""),
        (r#""x-nvidia-gpu-attestation-report-signature-verified":true,"#, ""),
        (r#"signature-verified":true"#, r#"signature-verified":"true""#),
        (r#""x-nvidia-gpu-att"#, r#""x-nvidia-switch-att"#),
        (r#""secboot":true,"#, ""),
        (r#""dbgstat":"disabled","#, ""),
        (r#""x-nvidia-gpu-attestation-report-nonce-match":true,"#, ""),
        (r#""x-nvidia-gpu-driver-version":"1","#, ""),
        (r#""x-nvidia-gpu-driver-version":"1""#, r#""x-nvidia-gpu-driver-version":null"#),
        (r#""x-nvidia-gpu-vbios-version":"2","#, ""),
    ] {
        let claims = DEVICE.replace(from, to);
        assert_ne!(claims, DEVICE, "{from}");
        let error = of_device(HEADER, &claims).unwrap_err();
        assert!(matches!(error, NrasError::Token { .. }) && !error.is_unsupported(), "{to}: {error}");
    }
    for (from, to) in [
        (r#""sub":"S","#, ""),
        (r#""x-nvidia-ver":"3.0","#, ""),
        (r#"att-result":true"#, r#"att-result":"true""#),
        (r#"["DIGEST","#, r#"["DETACHED","#),
        ("SHA-256", "SHA-1"),
        (r#"["SHA-256","NONCE"]"#, r#"["SHA-256","NONCE","NONCE"]"#),
        (r#"["SHA-256","NONCE"]"#, r#"["SHA-256","11"]"#),
        (r#""GPU-0":["#, r#""GPU-00":["#),
        (r#""submods":{"#, r#""submods":{"GPU-0":[],"#),
        (r#""submods":{"#, r#""submods":{"GPU-1":["DIGEST",["SHA-256","NONCE"]],"#),
    ] {
        let claims = OVERALL.replace(from, to);
        assert_ne!(claims, OVERALL, "{from}");
        let told = told(&answer(&token(HEADER, &claims), "GPU-0", &token(HEADER, DEVICE)));
        assert!(told != "read", "{to}");
    }
}

#[test]
fn claims_of_another_version_are_not_supported() {
    for (version, supported) in [("2.0", true), ("3.0", true), ("4.0", false), ("3", false)] {
        let claims = OVERALL.replace("3.0", version);
        let read =
            NrasAnswer::parse(answer(&token(HEADER, &claims), "GPU-0", &token(HEADER, DEVICE)).as_bytes());
        assert_eq!(read.is_ok(), supported, "{version}");
        assert!(read.map_or_else(|error| error.is_unsupported(), |_| true), "{version}");
    }
}

#[test]
fn every_claim_that_speaks_against_a_device_is_kept() {
    for (from, to, against) in [
        (r#""measres":"success""#, r#""measres":"fail""#, "measres \"fail\""),
        (r#""secboot":true"#, r#""secboot":false"#, "secboot false"),
        (r#""secboot":true"#, r#""secboot":null"#, "secboot null"),
        (r#""dbgstat":"disabled""#, r#""dbgstat":"enabled""#, "dbgstat \"enabled\""),
        ("nonce-match\":true", "nonce-match\":false", "nonce-match false"),
        ("signature-verified\":true", "signature-verified\":false", "signature-verified false"),
        (r#""valid""#, r#""revoked""#, "driver-rim-cert-chain"),
        (r#""good""#, r#""unknown""#, "driver-rim-cert-chain"),
        (r#""x-nvidia-cert-ocsp-status":"good""#, r#""x-nvidia-other":1"#, "driver-rim-cert-chain"),
        (r#""of-later""#, r#""x-nvidia-of-later":false,"of-later""#, "x-nvidia-of-later false"),
    ] {
        let claims = DEVICE.replace(from, to);
        assert_ne!(claims, DEVICE, "{from}");
        let read = of_device(HEADER, &claims).unwrap();
        let [one] = &read.devices[0].against[..] else { panic!("{to}: {:?}", read.devices[0].against) };
        assert!(one.contains(against), "{one}");
    }
    let warned = DEVICE.replace(r#"warning":null"#, r#"warning":"CERT_HOLD""#);
    let read = of_device(HEADER, &warned).unwrap();
    assert!(read.devices[0].warning && read.devices[0].against.is_empty());
}

#[test]
fn an_answer_is_the_bundle_that_nvidia_gives() {
    let [overall, device] = [token(HEADER, OVERALL), token(HEADER, DEVICE)];
    assert_eq!(told(&honest()), "read");
    assert_eq!(told(&format!(" {}\n", honest())), "read");
    for (json, what) in [
        (String::new(), "no JSON"),
        ("[]".to_owned(), "no JSON"),
        (format!("{}x", honest()), "no JSON"),
        (format!(r#"[["JWT","{overall}"]]"#), "no JSON"),
        (format!(r#"[["JWT","{overall}"],{{}},{{}}]"#), "no JSON"),
        (format!(r#"[["JWT","{overall}",1],{{"GPU-0":"{device}"}}]"#), "no JSON"),
        (format!(r#"[["CWT","{overall}"],{{"GPU-0":"{device}"}}]"#), "\"CWT\""),
        (format!(r#"[["JWT","{overall}"],{{}}]"#), "0 devices"),
        (format!(r#"[["JWT","{overall}"],{{"GPU-0":"{device}","GPU-0":"{device}"}}]"#), "twice"),
        (answer(&overall, "GPU-1", &device), "other devices"),
        (answer(&overall, "GPU-00", &device), "\"GPU-00\""),
        (answer(&overall, "GPU-256", &device), "\"GPU-256\""),
        (answer(&overall, "GPU-+0", &device), "\"GPU-+0\""),
        (answer(&overall, "REMOTE_GPU_CLAIMS", &device), "REMOTE_GPU_CLAIMS"),
        (answer(&overall, "", &device), "\"\""),
        (format!(r#"[["JWT","{overall}"],{{"GPU-0":["{device}"]}}]"#), "no JSON"),
    ] {
        assert!(told(&json).contains(what), "{json}: {}", told(&json));
    }
    let many: Vec<String> = (0..=MAX_DEVICES).map(|at| format!("\"GPU-{at}\":\"{device}\"")).collect();
    assert!(told(&format!(r#"[["JWT","{overall}"],{{{}}}]"#, many.join(","))).contains("33 devices"));
    let large = " ".repeat(MAX_NRAS_ANSWER + 1);
    assert_eq!(NrasAnswer::parse(large.as_bytes()), Err(NrasError::TooLarge(large.len())));
}

#[test]
fn decimal_numbers_are_read_to_their_bytes() {
    // The serial number of a recorded leaf, and the ueid that NVIDIA writes of it.
    let serial = hex::decode("53c22ba15e5d68088282da074ed9fb37aa585771").unwrap();
    assert_eq!(number("478176379286082186618948445787393647364802107249"), Some(serial));
    assert_eq!((number("0"), number("256")), (Some(vec![]), Some(vec![1, 0])));
    let most = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    assert_eq!(number(most), Some(vec![0xff; 32]));
    assert_eq!(number(&most.replace("935", "936")), None);
    assert_eq!(number(&"9".repeat(79)), None);
}

const X: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";

fn key(kid: &str) -> String {
    format!(
        r#"{{"kty":"EC","crv":"P-384","kid":"{kid}","x":"{X}","y":"{X}","x5c":["AQI=","AwQ="],"use":"sig"}}"#
    )
}

fn set(keys: &[&str]) -> Result<Jwks, JwksError> {
    Jwks::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes())
}

#[test]
fn a_key_set_is_read_by_its_ids() {
    let other = r#"{"kty":"RSA","kid":"r","n":"AQ","e":"AQAB"}"#;
    let set = set(&[&key("a"), &key("b"), other]).unwrap();
    let a = set.key("a").and_then(|key| key.key.clone()).unwrap();
    assert_eq!((a.point[0], &a.point[1..]), (4, &[1; 96][..]));
    assert_eq!(a.certificates, [vec![1, 2], vec![3, 4]]);
    assert_eq!(set.key("r").map(|key| key.key.is_none()), Some(true));
    assert_eq!((set.key("c"), set.count()), (None, 3));
}

#[test]
fn a_key_set_that_says_two_things_or_too_little_is_refused() {
    assert_eq!(set(&[&key("a"), &key("a")]), Err(JwksError::Duplicate("a".to_owned())));
    let other = r#"{"kty":"RSA","kid":"a"}"#;
    assert!(set(&[&key("a"), other]).is_err(), "whatever the kind");
    for (from, to, member) in [
        (r#""kid":"a""#, r#""kid":"""#, "kid"),
        (r#""kty":"EC","#, "", "kty"),
        (r#""crv":"P-384","#, "", "crv"),
        (r#""x":"AQ"#, r#""x":"AQEB"#, "x"),
        (r#""y":"AQEB"#, r#""y":""#, "y"),
        (r#""AQI=","#, "", "x5c"),
        (r#"["AQI=","#, r#"["AQI=","AQI=","#, "x5c"),
        ("AQI=", "AQI", "x5c"),
        ("AQI=", "AQ I=", "x5c"),
    ] {
        let bad = key("a").replacen(from, to, 1);
        assert_ne!(bad, key("a"), "{from}");
        assert_eq!(set(&[&key("b"), &bad]), Err(JwksError::Member { index: 1, member }), "{to}");
    }
    let twice = key("a").replace(r#""use":"sig""#, &format!(r#""x":"{X}""#));
    assert!(matches!(set(&[&twice]), Err(JwksError::Key { index: 0, .. })));
    for json in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, r#"{"keys":[1]}"#] {
        assert!(Jwks::parse(json.as_bytes()).is_err(), "{json}");
    }
    assert_eq!(set(&[]), Err(JwksError::Count(0)));
    let ids: Vec<String> = (0..=MAX_JWKS_KEYS).map(|at| key(&at.to_string())).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert!(set(&ids[1..]).is_ok());
    assert_eq!(set(&ids), Err(JwksError::Count(MAX_JWKS_KEYS + 1)));
    let large = " ".repeat(MAX_JWKS + 1);
    assert_eq!(Jwks::parse(large.as_bytes()), Err(JwksError::TooLarge(large.len())));
}
