#!/usr/bin/env python3
"""Recomputes every output of vectors.json, release-vectors.json and egress-vectors.json and checks every sample against the CDDL files beside it.

Uses the standard library alone and shares nothing with the Rust code: it has its own CBOR encoder and decoder, its
own reader of the CDDL subset that these files use, and its own hashing. Exits 1 on the first kind of disagreement.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import re
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent


# CBOR, RFC 8949 section 4.2.1. Byte strings are `bytes`, maps are `dict`.

def head(major, argument):
    for bound, code, form in ((24, None, ""), (1 << 8, 24, ">B"), (1 << 16, 25, ">H"), (1 << 32, 26, ">I"), (1 << 64, 27, ">Q")):
        if argument < bound:
            if code is None:
                return bytes([major << 5 | argument])
            return bytes([major << 5 | code]) + struct.pack(form, argument)
    raise ValueError(f"integer {argument} is too large")


def encode(value):
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(encode, value))
    entries = sorted((encode(key), encode(item)) for key, item in value.items())
    return head(5, len(entries)) + b"".join(key + item for key, item in entries)


def decode(data):
    value, end = decode_item(data, 0)
    if end != len(data):
        raise ValueError("trailing bytes")
    return value


def decode_item(data, at):
    initial = data[at]
    major, low = initial >> 5, initial & 0x1F
    if major == 7:
        return {20: False, 21: True, 22: None}[low], at + 1
    width = {24: 1, 25: 2, 26: 4, 27: 8}.get(low, 0)
    argument = int.from_bytes(data[at + 1:at + 1 + width], "big") if width else low
    at += 1 + width
    if major == 0:
        return argument, at
    if major in (2, 3):
        content = data[at:at + argument]
        if len(content) != argument:
            raise ValueError("truncated")
        return (content if major == 2 else content.decode()), at + argument
    items = []
    for _ in range(argument * (2 if major == 5 else 1)):
        item, at = decode_item(data, at)
        items.append(item)
    return (items if major == 4 else dict(zip(items[::2], items[1::2]))), at


# The subset of CDDL (RFC 8610) that the files use: maps, arrays, choices, literals, occurrences, .size, .regexp and .cbor.

class Cddl:
    TOKEN = re.compile(r'\s+|;[^\n]*|(?P<t>"[^"]*"|\.\.|\.[a-z]+|\d*\*\d*|\d+|[A-Za-z_][\w-]*|[{}\[\]()/,:?=])')

    def __init__(self, text):
        self.tokens, at = [], 0
        while at < len(text):
            match = self.TOKEN.match(text, at)
            if not match:
                raise ValueError(f"CDDL: cannot read {text[at:at + 20]!r}")
            if match["t"]:
                self.tokens.append(match["t"])
            at = match.end()
        self.rules, self.at = {}, 0
        while self.at < len(self.tokens):
            name = self.take()
            self.take("=")
            if name in self.rules:
                raise ValueError(f"CDDL: rule {name} is defined twice")
            self.rules[name] = self.type()

    def peek(self, ahead=0):
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ""

    def take(self, wanted=None):
        token = self.peek()
        if wanted is not None and token != wanted:
            raise ValueError(f"CDDL: {wanted!r} expected before {self.tokens[self.at:self.at + 5]}")
        self.at += 1
        return token

    def type(self):
        choices = [self.controlled()]
        while self.peek() == "/":
            self.take()
            choices.append(self.controlled())
        return ("choice", choices)

    def controlled(self):
        inner = self.plain()
        if self.peek() == ".size":
            self.take()
            return ("size", inner, *self.bounds())
        if self.peek() == ".regexp":
            self.take()
            return ("regexp", inner, self.take()[1:-1])
        if self.peek() == ".cbor":
            self.take()
            return ("cbor", inner, self.take())
        return inner

    def bounds(self):
        """A number, or a range (low..high): the least and the most bytes."""
        if self.peek() != "(":
            size = int(self.take())
            return size, size
        self.take("(")
        low, high = int(self.take()), int(self.take("..") and self.take())
        self.take(")")
        return low, high

    def plain(self):
        token = self.take()
        if token == "{":
            return ("map", self.entries("}"))
        if token == "[":
            return ("array", self.entries("]"))
        if token[0] == '"':
            return ("literal", token[1:-1])
        if token.isdigit():
            return ("literal", int(token))
        return ("name", token)

    def entries(self, close):
        entries = []
        while self.peek() != close:
            low, high = 1, 1
            if self.peek() == "?":
                self.take()
                low = 0
            elif "*" in self.peek():
                low, high = self.take().split("*")
                low, high = int(low or 0), int(high) if high else None
            key = None
            if self.peek(1) == ":":
                key = self.take()
                self.take(":")
            entries.append((low, high, key, self.type()))
            if self.peek() == ",":
                self.take()
        self.take(close)
        return entries

    def matches(self, value, type_):
        kind = type_[0]
        if kind == "choice":
            return any(self.matches(value, choice) for choice in type_[1])
        if kind == "literal":
            return type(value) is type(type_[1]) and value == type_[1]
        if kind == "size":
            size = len(value.encode() if isinstance(value, str) else value) if isinstance(value, (str, bytes)) else -1
            return self.matches(value, type_[1]) and type_[2] <= size <= type_[3]
        if kind == "regexp":
            return self.matches(value, type_[1]) and re.fullmatch(type_[2], value) is not None
        if kind == "cbor":
            return self.matches(value, type_[1]) and encode(decode(value)) == value and self.matches(decode(value), ("name", type_[2]))
        if kind == "map":
            return self.matches_map(value, type_[1])
        if kind == "array":
            return isinstance(value, list) and self.matches_array(value, type_[1])
        return self.matches_name(value, type_[1])

    def matches_name(self, value, name):
        builtin = {"bstr": bytes, "tstr": str, "bool": bool, "null": type(None)}
        if name in builtin:
            return type(value) is builtin[name]
        if name == "uint":
            return type(value) is int and value >= 0
        return self.matches(value, self.rules[name])

    def matches_map(self, value, entries):
        if not isinstance(value, dict) or not set(value) <= {key for _, _, key, _ in entries}:
            return False
        return all(self.matches(value[key], type_) if key in value else low == 0 for low, _, key, type_ in entries)

    def matches_array(self, value, entries):
        at = 0
        for low, high, _, type_ in entries:
            count = 0
            while at < len(value) and (high is None or count < high) and self.matches(value[at], type_):
                at, count = at + 1, count + 1
            if count < low:
                return False
        return at == len(value)


# The hashes of README.md.

def lp(*fields):
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


def sha256(data):
    return hashlib.sha256(data).digest()


def sha512(data):
    return hashlib.sha512(data).digest()


def event_digest(kind, payload):
    return hashlib.sha384(lp(b"confide/event/v1", kind.encode(), encode(payload))).digest()


def rtmr3(events):
    register = bytes(48)
    for event in events:
        register = hashlib.sha384(register + event_digest(event["kind"], event["payload"])).digest()
    return register


def report_data(i):
    fields = [i[name] for name in ("nonce", "channel", "tls_spki", "keyset", "devices", "claims", "boot_id")]
    return sha512(lp(b"confide/report-data/v1", i["role"].encode(), *fields))


def gpu_nonce(i):
    position = struct.pack(">I", i["position"])
    return sha256(lp(b"confide/gpu-nonce/v1", i["role"].encode(), i["nonce"], i["channel"], position))


def batch_node(left, right):
    return sha512(lp(b"confide/batch/v1/node", left, right))


def batch_root(leaves):
    """RFC 9162 section 2.1.1."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return batch_node(batch_root(leaves[:split]), batch_root(leaves[split:]))


def batch_path_root(leaf, path, size, index):
    """The path's siblings from the leaf upwards, by descending the tree of RFC 9162 from its root."""
    if size == 1:
        if path:
            raise ValueError("path is too long")
        return leaf
    split = 1
    while split * 2 < size:
        split *= 2
    if index < split:
        return batch_node(batch_path_root(leaf, path[:-1], split, index), path[-1])
    return batch_node(path[-1], batch_path_root(leaf, path[:-1], size - split, index - split))


def manifest_digest(files):
    entries = []
    for file in sorted(files, key=lambda file: file["path"].encode()):
        pattern, size = file["repeat"], file["size"]
        content = (pattern * (size // max(len(pattern), 1) + 1))[:size]
        chunks = [sha256(content[at:at + (4 << 20)]) for at in range(0, size, 4 << 20)]
        entries.append([file["path"], size, chunks])
    return sha256(encode(entries))


def record_hash(record):
    return sha256(lp(b"confide/record/v1", encode(record)))


def record_chain(records):
    prev = bytes(32)
    for record in records:
        if record["prev"] != prev:
            raise ValueError("the chain is broken")
        prev = record_hash(record)
    return prev


def opinion_inputs(i):
    return sha256(lp(b"confide/second-opinion/v1", i["quote"], encode(i["value"]), struct.pack(">Q", i["time"])))


def receipt_signing_input(i):
    r = i["receipt"]
    return lp(
        b"confide/receipt/v1", r["boot_id"], r["key_set"], r["request_id"].encode(), struct.pack(">Q", r["sequence"]),
        sha256(r["salt"] + sha256(i["request_body"])), sha256(r["salt"] + sha256(i["response_body"])),
        r["manifest"], r["configuration"], encode(r["usage"]), struct.pack(">Q", r["time"]),
    )


def kept_receipt_chain(receipts):
    prev = bytes(32)
    for kept in receipts:
        if kept["prev"] != prev:
            raise ValueError("the chain is broken")
        prev = sha256(lp(b"confide/kept-receipt/v1", encode(kept)))
    return prev


def head_signing_input(head):
    fields = [field for chain in (head["records"], head["receipts"])
              for field in (struct.pack(">Q", chain["count"]), chain["last"])]
    return lp(b"confide/record-head/v1", struct.pack(">Q", head["time"]), *fields)


def release(i):
    """What the signature of an answer covers. It must be there, for what the request's document binds, and all must open."""
    request, answer, document = i["request"], i["answer"], decode(i["request"]["document"])
    boot, recipient_key = decode(document["events"][0][1]), document["key_set"]["kem"]["public"]
    # RFC 8410 section 4.
    if boot["broker_key"] != bytes.fromhex("302a300506032b6570032100") + i["identity_key"]:
        raise ValueError("the guest measured another broker's key")
    data = [lp(request["nonce"], item["id"].encode()) for item in answer["volumes"]]
    sealed = [field for aad, item in zip(data, answer["volumes"]) for field in (aad, item["encapsulated"], item["ciphertext"])]
    time = struct.pack(">Q", answer["time"])
    signed = lp(b"confide/release/v1", sha256(request["document"]), request["nonce"], recipient_key, time, *sealed)
    if not ed25519_verifies(i["identity_key"], signed, answer["signature"]):
        raise ValueError("the signature does not verify")
    if [item["id"] for item in answer["volumes"]] != request["volumes"]:
        raise ValueError("the answer is about other volumes")
    for aad, item, secrets in zip(data, answer["volumes"], i["secrets"], strict=True):
        shared = xwing_shared(i["recipient_seed"], recipient_key, item["encapsulated"])
        if hpke_open(shared, b"confide/release/v1", aad, item["ciphertext"]) != encode(secrets):
            raise ValueError("the ciphertext holds other secrets")
    return signed


def header_digest(i):
    """Of a copy of a LUKS2 header, without what differs between its two copies, and of its keyslot."""
    fields, text, pattern, size = i["fields"], i["json"].encode(), i["area"]["repeat"], i["area"]["size"]
    copy = fields + bytes(4096 - len(fields)) + text + bytes(16384 - 4096 - len(text))
    if copy[448:480] != sha256(copy[:448] + bytes(64) + copy[512:]):
        raise ValueError("the checksum is wrong")
    for start, end in ((0, 6), (104, 168), (256, 264), (448, 512)):
        copy = copy[:start] + bytes(end - start) + copy[end:]
    return sha256(copy + (pattern * (size // len(pattern) + 1))[:size])


def audit_chain(entries):
    prev = bytes(32)
    for place, entry in enumerate(entries):
        if entry["prev"] != prev or entry["seq"] != place:
            raise ValueError("the chain is broken")
        prev = sha256(lp(b"confide/broker-audit/v1", encode(entry)))
    return prev


def audit_head_signing_input(head):
    numbers = [struct.pack(">Q", head[name]) for name in ("time", "count")]
    return lp(b"confide/broker-audit-head/v1", *numbers, head["last"])


COMPUTE = {
    "length-prefixed": lambda i: lp(*i["fields"]),
    "encoding": lambda i: encode(i["value"]),
    "digest": lambda i: sha256(encode(i["value"])),
    "event-digest": lambda i: event_digest(i["kind"], i["payload"]),
    "rtmr3": lambda i: rtmr3(i["events"]),
    "report-data": report_data,
    "gpu-nonce": gpu_nonce,
    "batch-leaf": lambda i: sha512(lp(b"confide/batch/v1/leaf", i["nonce"], i["channel"])),
    "batch-node": lambda i: batch_node(i["left"], i["right"]),
    "batch-root": lambda i: batch_root(i["leaves"]),
    "batch-path": lambda i: batch_path_root(i["leaf"], i["batch"]["path"], i["batch"]["size"], i["batch"]["index"]),
    "manifest": lambda i: manifest_digest(i["files"]),
    "record-hash": lambda i: record_hash(i["value"]),
    "record-chain": lambda i: record_chain(i["records"]),
    "second-opinion": opinion_inputs,
    "receipt-signing-input": receipt_signing_input,
    "kept-receipt-chain": lambda i: kept_receipt_chain(i["receipts"]),
    "head-signing-input": lambda i: head_signing_input(i["value"]),
    "release": release,
    "header-digest": header_digest,
    "ruleset-digest": lambda i: sha256(i["text"].encode()),
    "audit-chain": lambda i: audit_chain(i["entries"]),
    "audit-head-signing-input": lambda i: audit_head_signing_input(i["value"]),
}


def restore(entries):
    """`{"hex": …}` stands for a byte string."""
    return bytes.fromhex(entries["hex"]) if set(entries) == {"hex"} else entries


def check(vector, cddl):
    inputs = vector["inputs"]
    computed = COMPUTE[vector["kind"]](inputs)
    if computed.hex() != vector["output"]:
        return f"computed {computed.hex()[:128]}, the file has {vector['output'][:128]}"
    if vector["kind"] == "encoding":
        if decode(computed) != inputs["value"]:
            return "decodes to another value"
    if "rule" in inputs and not cddl.matches(inputs["value"], ("name", inputs["rule"])):
        return f"is no {inputs['rule']}, as the CDDL has it"
    return None


def check_that_cddl_refuses(cddl, document):
    """The reader of CDDL must be able to say no: each change of a valid document must be refused."""
    claims = document["claims"]
    changes = {
        "unknown key": {**document, "x": 0},
        "missing key": {key: value for key, value in document.items() if key != "claims"},
        "wrong literal": {**document, "version": 2},
        "wrong type": {**document, "boot_id": "0123456789abcdef"},
        "wrong size": {**document, "boot_id": bytes(15)},
        "unknown event": {**document, "events": [["reboot", encode({})]]},
        "foreign payload": {**document, "events": [["open", encode({"x": 0})]]},
        "too many devices": {**document, "devices": document["devices"] * 64},
        "null for a digest": {**document, "claims": {**claims, "configuration": None}},
    }
    return [name for name, changed in changes.items() if cddl.matches(changed, ("name", "evidence"))]


def check_that_cddl_refuses_entries(cddl, entry):
    changes = {
        "entry of an unknown kind": {**entry, "what": "deleted"},
        "entry without its place": {key: value for key, value in entry.items() if key != "seq"},
        "entry with a name that is none": {**entry, "volumes": [["../x", []]]},
        "entry with a negative generation": {**entry, "volumes": [["x", [-1]]]},
    }
    return [name for name, changed in changes.items() if cddl.matches(changed, ("name", "audit-entry"))]


# What a guest opens: HPKE (RFC 9180) in base mode with X-Wing (draft-connolly-cfrg-xwing-kem), HKDF-SHA256, ChaCha20Poly1305.

def ml_kem_768_shared(seed, key, ciphertext):
    """The key that the ciphertext holds (FIPS 203 sections 5.3 and 6.3), if it is a genuine one: what was sealed under it shows that."""
    q = 3329

    def noise(number):
        bits = int.from_bytes(hashlib.shake_256(sigma + bytes([number])).digest(128), "little")
        pairs = [(bits >> 4 * i & 3, bits >> 4 * i + 2 & 3) for i in range(256)]
        return [one.bit_count() - other.bit_count() for one, other in pairs]

    def decompressed(data, width):
        packed = int.from_bytes(data, "little")
        values = [packed >> width * i & (1 << width) - 1 for i in range(256)]
        return [(q * value + (1 << width - 1)) >> width for value in values]

    sigma = hashlib.sha3_512(seed + b"\x03").digest()[32:]
    w = decompressed(ciphertext[960:], 4)
    for row in range(3):
        secret, u = noise(row), decompressed(ciphertext[320 * row:320 * row + 320], 10)
        for i, one in enumerate(secret):
            for j, other in enumerate(u):
                place, sign = (i + j, 1) if i + j < 256 else (i + j - 256, -1)
                w[place] -= sign * one * other
    bits = [(4 * (value % q) + q) // (2 * q) & 1 for value in w]
    message = sum(bit << i for i, bit in enumerate(bits)).to_bytes(32, "little")
    return hashlib.sha3_512(message + hashlib.sha3_256(key).digest()).digest()[:32]


def x25519(scalar, point):
    """RFC 7748 section 5."""
    p = 2**255 - 19
    k = int.from_bytes(scalar, "little") & ~7 & (1 << 255) - 1 | 1 << 254
    x = int.from_bytes(point, "little") & (1 << 255) - 1
    x2, z2, x3, z3 = 1, 0, x, 1
    for t in range(254, -1, -1):
        if k >> t & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % p, b * b % p, d * a % p, c * b % p
        e = aa - bb
        x3, z3, x2, z2 = (da + cb) ** 2 % p, x * (da - cb) ** 2 % p, aa * bb % p, e * (aa + 121665 * e) % p
        if k >> t & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return (x2 * pow(z2, -1, p) % p).to_bytes(32, "little")


def xwing_shared(seed, key, ciphertext):
    expanded = hashlib.shake_256(seed).digest(96)
    inner = ml_kem_768_shared(expanded[:32], key[:1184], ciphertext[:1088])
    outer = x25519(expanded[64:], ciphertext[1088:])
    return hashlib.sha3_256(inner + outer + ciphertext[1088:] + key[1184:] + b"\\.//^\\").digest()


def hpke_open(shared, info, aad, ciphertext):
    suite = b"HPKE" + bytes.fromhex("647a00010003")

    def extract(salt, label, data):
        return hmac.digest(salt, b"HPKE-v1" + suite + label + data, "sha256")

    def expand(label, size):
        return hmac.digest(secret, bytes([0, size]) + b"HPKE-v1" + suite + label + context + b"\x01", "sha256")[:size]

    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    return chacha20_poly1305_open(expand(b"key", 32), expand(b"base_nonce", 12), aad, ciphertext)


def chacha20(key, nonce, counter, size):
    """RFC 8439 section 2.4: so many bytes of the key stream."""
    def turn(a, b, c, d):
        for one, other, into, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[one] = state[one] + state[other] & 0xFFFFFFFF
            mixed = state[into] ^ state[one]
            state[into] = (mixed << by | mixed >> 32 - by) & 0xFFFFFFFF

    stream = b""
    while len(stream) < size:
        begun = [*struct.unpack("<4I", b"expand 32-byte k"), *struct.unpack("<8I", key), counter, *struct.unpack("<3I", nonce)]
        state = begun.copy()
        for _ in range(10):
            for column in range(4):
                turn(column, 4 + column, 8 + column, 12 + column)
            for column in range(4):
                turn(column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4)
        stream += struct.pack("<16I", *[one + other & 0xFFFFFFFF for one, other in zip(begun, state)])
        counter += 1
    return stream[:size]


def chacha20_poly1305_open(key, nonce, aad, sealed):
    """RFC 8439 section 2.8."""
    ciphertext, tag = sealed[:-16], sealed[-16:]
    once = chacha20(key, nonce, 0, 32)
    r, s = int.from_bytes(once[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF, int.from_bytes(once[16:], "little")
    padded = [part + bytes(-len(part) % 16) for part in (aad, ciphertext)]
    message = b"".join(padded) + struct.pack("<QQ", len(aad), len(ciphertext))
    sum_ = 0
    for at in range(0, len(message), 16):
        sum_ = (sum_ + int.from_bytes(message[at:at + 16] + b"\x01", "little")) * r % (2**130 - 5)
    if (sum_ + s & (1 << 128) - 1).to_bytes(16, "little") != tag:
        raise ValueError("what was sealed does not open")
    return bytes(one ^ other for one, other in zip(ciphertext, chacha20(key, nonce, 1, len(ciphertext))))


# Signatures, of brokers and over files of reference values: Ed25519 (RFC 8032 section 5.1.7) and ECDSA on P-256 (FIPS 186-5 section 6.4).

def pem(text):
    return base64.b64decode("".join(line for line in text.splitlines() if not line.startswith("-----")))


def ed25519_verifies(key, message, signature):
    prime = 2**255 - 19
    order = 2**252 + 27742317777372353535851937790883648493
    d = -121665 * pow(121666, -1, prime) % prime

    def point(data):
        y = int.from_bytes(data, "little")
        sign, y = y >> 255, y & (1 << 255) - 1
        square = (y * y - 1) * pow(d * y * y + 1, -1, prime) % prime
        x = pow(square, (prime + 3) // 8, prime)
        if (x * x - square) % prime:
            x = x * pow(2, (prime - 1) // 4, prime) % prime
        if (x * x - square) % prime:
            raise ValueError("not a point")
        return (prime - x if x & 1 != sign else x), y

    def add(one, other):
        (x1, y1), (x2, y2) = one, other
        product = d * x1 * x2 * y1 * y2
        return ((x1 * y2 + x2 * y1) * pow(1 + product, -1, prime) % prime,
                (y1 * y2 + x1 * x2) * pow(1 - product, -1, prime) % prime)

    base = point((4 * pow(5, -1, prime) % prime).to_bytes(32, "little"))
    s = int.from_bytes(signature[32:], "little")
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % order
    if len(signature) != 64 or s >= order:
        return False
    return times(s, base, add, (0, 1)) == add(point(signature[:32]), times(k, point(key), add, (0, 1)))


def p256_verifies(key, message, signature):
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    base = (0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
            0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5)

    def add(one, other):
        if one is None or other is None:
            return one or other
        (x1, y1), (x2, y2) = one, other
        if x1 == x2 and (y1 + y2) % prime == 0:
            return None
        if one == other:
            slope = 3 * (x1 * x1 - 1) * pow(2 * y1, -1, prime)
        else:
            slope = (y2 - y1) * pow(x2 - x1, -1, prime)
        x = (slope * slope - x1 - x2) % prime
        return x, (slope * (x1 - x) - y1) % prime

    def integer(data):
        size = data[1]
        return int.from_bytes(data[2:2 + size], "big"), data[2 + size:]

    r, rest = integer(signature[2:])
    s, rest = integer(rest)
    if rest or not (0 < r < order and 0 < s < order):
        return False
    e = int.from_bytes(sha256(message), "big")
    public = int.from_bytes(key[1:33], "big"), int.from_bytes(key[33:], "big")
    inverse = pow(s, -1, order)
    found = add(times(e * inverse % order, base, add, None), times(r * inverse % order, public, add, None))
    return found is not None and found[0] % order == r


def times(factor, point, add, zero):
    result = zero
    for bit in bin(factor)[2:]:
        result = add(result, result)
        if bit == "1":
            result = add(result, point)
    return result


def check_references():
    """The example file under both of its signatures, which must fail for every changed byte that is tried."""
    folder = HERE / "references"
    file = (folder / "example.toml").read_bytes()
    problems = []
    for name, verifies, key_size in (("ed25519", ed25519_verifies, 32), ("p256", p256_verifies, 65)):
        key = pem((folder / f"{name}.pem").read_text())[-key_size:]
        signature = (folder / f"example.toml.{name}.sig").read_bytes()
        if not verifies(key, file, signature):
            problems.append((f"references {name}", "does not verify"))
        if verifies(key, file.replace(b"version = 3", b"version = 4"), signature):
            problems.append((f"references {name}", "verifies for a changed file"))
    return problems


def check_domains():
    """Every hash and signing input has a domain: whichever README.md names must be one that is computed here."""
    named = re.findall(r'"(confide/[a-z0-9/-]+)"', (HERE / "README.md").read_text())
    computed = set(re.findall(r'b"(confide/[a-z0-9/-]+)"', pathlib.Path(__file__).read_text()))
    return [(domain, "is not computed by this script") for domain in named if domain not in computed]


def main():
    cddl = Cddl("\n".join(path.read_text() for path in sorted(HERE.glob("*.cddl"))))
    files = [json.loads((HERE / name).read_text(), object_hook=restore) for name in ("vectors.json", "release-vectors.json", "egress-vectors.json")]
    vectors = [vector for file in files for vector in file["vectors"]]
    failures = [(vector["name"], problem) for vector in vectors if (problem := check(vector, cddl))]
    failures += [(kind, "has no vector") for kind in COMPUTE if kind not in {vector["kind"] for vector in vectors}]
    samples = [vector["inputs"]["value"] for vector in vectors if vector["inputs"].get("rule") == "evidence"]
    failures += [(f"CDDL: {name}", "is accepted") for name in check_that_cddl_refuses(cddl, samples[0])]
    entries = [vector["inputs"]["value"] for vector in vectors if vector["inputs"].get("rule") == "audit-entry"]
    failures += [(f"CDDL: {name}", "is accepted") for name in check_that_cddl_refuses_entries(cddl, entries[0])]
    failures += check_domains()
    failures += check_references()
    for name, problem in failures:
        print(f"{name}: {problem}", file=sys.stderr)
    print(f"{len(vectors)} vectors, 2 signatures, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
