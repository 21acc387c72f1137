//! How much an address, and the networks that it is in, may take.
//!
//! Whoever has one address of IPv6 has a /64 of them, and mostly a /56 or a /48; who rents machines has some of a /28 or of a
//! /24 of IPv4. So everything is counted for three networks of each address: the narrowest has one share, the next two, the
//! widest four.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The most networks that are told apart. They take under 2 MiB; those beyond them share one allowance.
const MAX_NETWORKS: usize = 16 * 1024;

/// How often those are forgotten that have all of their allowance: looking at each takes milliseconds.
const SWEEP: Duration = Duration::from_secs(1);

/// A network of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Network {
    /// The first address of it; one of IPv4 is mapped (RFC 4291 section 2.5.5.2).
    first: Ipv6Addr,
    /// Bits of the prefix, of 128.
    bits: u32,
}

/// An address's three networks, the widest first, each with the number of shares that it has.
pub(crate) type Networks = [(Network, u32); 3];

impl Network {
    /// All addresses.
    const EVERYBODY: Self = Self { first: Ipv6Addr::UNSPECIFIED, bits: 0 };
    /// Those that are not told apart any more.
    const REST: Self = Self { first: Ipv6Addr::UNSPECIFIED, bits: 128 };

    /// The networks of an address: /48, /56 and /64 of IPv6, /24, /28 and one address of IPv4.
    pub(crate) fn of(address: IpAddr) -> Networks {
        let (address, widths) = match address.to_canonical() {
            IpAddr::V4(address) => (address.to_ipv6_mapped(), [96 + 24, 96 + 28, 96 + 32]),
            IpAddr::V6(address) => (address, [48, 56, 64]),
        };
        let [widest, middle, narrowest] = widths.map(|bits| Self::containing(address, bits));
        [(widest, 4), (middle, 2), (narrowest, 1)]
    }

    fn containing(address: Ipv6Addr, bits: u32) -> Self {
        let rest = u128::MAX.checked_shr(bits).unwrap_or(0);
        Self { first: Ipv6Addr::from_bits(address.to_bits() & !rest), bits }
    }
}

/// The network in the notation of RFC 4632 or RFC 4291.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first.to_ipv4_mapped() {
            Some(first) => write!(f, "{}/{}", first, self.bits.saturating_sub(96)),
            None => write!(f, "{}/{}", self.first, self.bits),
        }
    }
}

/// An allowance for each network: so much at once, and again as much over a period.
pub(crate) struct Allowance {
    share: f64,
    period: f64,
    /// What all have together.
    everybody: Option<f64>,
    buckets: Mutex<Buckets>,
}

#[derive(Default)]
struct Buckets {
    by_network: HashMap<Network, Bucket>,
    /// When those that are full were forgotten last.
    swept: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Bucket {
    most: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    /// What it holds now, where it fills up within `period` seconds.
    fn left(&self, period: f64, now: Instant) -> f64 {
        let refilled = now.saturating_duration_since(self.at).as_secs_f64() * self.most / period;
        (self.left + refilled).min(self.most)
    }
}

impl Allowance {
    /// `share` for an address in each `period`.
    pub(crate) fn new(share: u32, period: Duration) -> Self {
        let (share, period) = (f64::from(share), period.as_secs_f64());
        Self { share, period, everybody: None, buckets: Mutex::default() }
    }

    /// The same, where all have `most` together in each period.
    pub(crate) fn of_all(self, most: u32) -> Self {
        Self { everybody: Some(f64::from(most)), ..self }
    }

    /// Takes some off the allowance of an address and of the networks that it is in.
    ///
    /// # Errors
    /// How long it takes until there is as much again.
    pub(crate) fn take(&self, address: IpAddr, amount: u32, now: Instant) -> Result<(), Duration> {
        let amount = f64::from(amount);
        let mut buckets = self.lock();
        let taken = self.buckets(address, &mut buckets, now);
        // The widest first: who has used that up makes no further buckets.
        for (_, bucket) in &taken {
            if bucket.left < amount {
                let missing = (amount - bucket.left) * self.period / bucket.most;
                return Err(Duration::from_secs_f64(missing));
            }
        }
        for (network, bucket) in taken {
            buckets.by_network.insert(network, Bucket { left: bucket.left - amount, ..bucket });
        }
        Ok(())
    }

    /// The buckets of an address as they are now.
    fn buckets(&self, address: IpAddr, buckets: &mut Buckets, now: Instant) -> Vec<(Network, Bucket)> {
        let networks = Network::of(address);
        let Buckets { by_network: known, swept } = buckets;
        let unknown = networks.iter().filter(|(network, _)| !known.contains_key(network)).count();
        let due = swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP);
        if known.len().saturating_add(unknown) > MAX_NETWORKS && due {
            *swept = Some(now);
            known.retain(|_, bucket| bucket.left(self.period, now) < bucket.most);
        }
        let told_apart = known.len().saturating_add(unknown) <= MAX_NETWORKS;
        let of_network = |(network, shares)| (network, self.share * f64::from(shares));
        let everybody = self.everybody.map(|most| (Network::EVERYBODY, most));
        let named = networks.into_iter().filter(|_| told_apart).map(of_network);
        let rest = (!told_apart).then_some((Network::REST, self.share));
        let current = |(network, most)| {
            let bucket = known.get(&network).map(|bucket| bucket.left(self.period, now));
            (network, Bucket { most, left: bucket.unwrap_or(most), at: now })
        };
        everybody.into_iter().chain(named).chain(rest).map(current).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What networks hold of something of which there is a bounded amount.
struct Tally {
    share: u64,
    most: u64,
    all: u64,
    held: HashMap<Network, u64>,
}

impl Tally {
    fn new(share: u64, most: u64) -> Self {
        Self { share, most, all: 0, held: HashMap::new() }
    }

    /// Whether there is so much for an address: of all, and of the share of each of its networks.
    fn has(&self, address: IpAddr, amount: u64) -> bool {
        let fits = |held: u64, most: u64| held.saturating_add(amount) <= most;
        let of_network =
            |(network, shares)| fits(self.of(network), self.share.saturating_mul(u64::from(shares)));
        fits(self.all, self.most) && Network::of(address).into_iter().all(of_network)
    }

    fn of(&self, network: Network) -> u64 {
        self.held.get(&network).copied().unwrap_or_default()
    }

    /// What the widest network of an address holds.
    fn of_widest(&self, address: IpAddr) -> u64 {
        let [(widest, _), ..] = Network::of(address);
        self.of(widest)
    }

    fn add(&mut self, address: IpAddr, amount: u64) {
        self.all = self.all.saturating_add(amount);
        for (network, _) in Network::of(address) {
            let held = self.held.entry(network).or_default();
            *held = held.saturating_add(amount);
        }
    }

    fn remove(&mut self, address: IpAddr, amount: u64) {
        self.all = self.all.saturating_sub(amount);
        for (network, _) in Network::of(address) {
            if let Some(held) = self.held.get_mut(&network) {
                *held = held.saturating_sub(amount);
                if *held == 0 {
                    self.held.remove(&network);
                }
            }
        }
    }
}

/// Bytes that requests have in memory.
#[derive(Clone)]
pub(crate) struct Room(Arc<Mutex<Tally>>);

/// Bytes of one request. They are given back when it is dropped.
pub(crate) struct Taken {
    room: Room,
    peer: IpAddr,
    amount: u64,
}

impl Room {
    /// `most` bytes for all, `share` for an address.
    pub(crate) fn new(share: u64, most: u64) -> Self {
        Self(Arc::new(Mutex::new(Tally::new(share, most))))
    }

    /// So many bytes for a request of an address, where there are as many.
    pub(crate) fn take(&self, peer: IpAddr, amount: u64) -> Option<Taken> {
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !tally.has(peer, amount) {
            return None;
        }
        tally.add(peer, amount);
        Some(Taken { room: self.clone(), peer, amount })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.0.lock().unwrap_or_else(PoisonError::into_inner).remove(self.peer, self.amount);
    }
}

/// Open connections. Where there are as many as may be, a new one takes the place of an idle one of the network that has most.
#[derive(Clone)]
pub(crate) struct Connections {
    most: usize,
    open: Arc<Mutex<Open>>,
}

struct Open {
    tally: Tally,
    next: u64,
    /// By number, the oldest first.
    all: BTreeMap<u64, Held>,
}

struct Held {
    peer: IpAddr,
    /// A request is being answered, and not merely read.
    working: bool,
    end: Arc<Notify>,
}

/// One connection. It is over when dropped.
pub(crate) struct Place {
    number: u64,
    open: Arc<Mutex<Open>>,
    end: Arc<Notify>,
}

/// A request that is being answered: its connection keeps its place until this is dropped.
pub(crate) struct Working<'a>(&'a Place);

impl Connections {
    /// `most` at a time, and `share` of one address.
    pub(crate) fn new(share: usize, most: usize) -> Self {
        let share = u64::try_from(share).unwrap_or(u64::MAX);
        let open = Open { tally: Tally::new(share, u64::MAX), next: 0, all: BTreeMap::new() };
        Self { most, open: Arc::new(Mutex::new(open)) }
    }

    /// A place for one more connection of an address. None where one of its networks has its share, or where all others are
    /// being answered.
    pub(crate) fn enter(&self, peer: IpAddr) -> Option<Place> {
        let mut open = lock(&self.open);
        if !open.tally.has(peer, 1) || (open.all.len() >= self.most && !open.end_one()) {
            return None;
        }
        open.tally.add(peer, 1);
        let (number, end) = (open.next, Arc::new(Notify::new()));
        open.next = open.next.saturating_add(1);
        open.all.insert(number, Held { peer, working: false, end: Arc::clone(&end) });
        Some(Place { number, open: Arc::clone(&self.open), end })
    }
}

impl Open {
    /// Ends the oldest idle connection of the network that has most.
    fn end_one(&mut self) -> bool {
        let mut found: Option<(u64, u64)> = None;
        for (number, held) in self.all.iter().filter(|(_, held)| !held.working) {
            let count = self.tally.of_widest(held.peer);
            if found.is_none_or(|(most, _)| count > most) {
                found = Some((count, *number));
            }
        }
        let ended = found.and_then(|(_, number)| self.remove(number));
        ended.inspect(|held| held.end.notify_one()).is_some()
    }

    fn remove(&mut self, number: u64) -> Option<Held> {
        let held = self.all.remove(&number)?;
        self.tally.remove(held.peer, 1);
        Some(held)
    }
}

impl Place {
    /// Returns once another connection has this place.
    pub(crate) async fn lost(&self) {
        self.end.notified().await;
    }

    /// Keeps the place while a request is answered; nothing where it is lost already.
    pub(crate) fn work(&self) -> Option<Working<'_>> {
        let mut open = lock(&self.open);
        open.all.get_mut(&self.number)?.working = true;
        Some(Working(self))
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        if let Some(held) = lock(&self.0.open).all.get_mut(&self.0.number) {
            held.working = false;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.open).remove(self.number);
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_in_three_networks() {
        for (text, expected) in [
            ("2001:db8:1:2:3::4", ["2001:db8:1::/48", "2001:db8:1::/56", "2001:db8:1:2::/64"]),
            ("2001:db8:1:2ff:3::4", ["2001:db8:1::/48", "2001:db8:1:200::/56", "2001:db8:1:2ff::/64"]),
            ("192.0.2.129", ["192.0.2.0/24", "192.0.2.128/28", "192.0.2.129/32"]),
            ("::ffff:192.0.2.129", ["192.0.2.0/24", "192.0.2.128/28", "192.0.2.129/32"]),
        ] {
            let networks = Network::of(address(text));
            assert_eq!(networks.map(|(network, _)| network.to_string()), expected);
            assert_eq!(networks.map(|(_, shares)| shares), [4, 2, 1]);
        }
    }

    #[test]
    fn an_address_has_its_allowance_again_after_a_minute_and_others_have_theirs() {
        let (rates, now) = (Allowance::new(3, MINUTE), Instant::now());
        let (one, other) = (address("192.0.2.1"), address("198.51.100.2"));
        for _ in 0..3 {
            rates.take(one, 1, now).unwrap();
        }
        assert_eq!(rates.take(one, 1, now).unwrap_err().as_secs(), 20);
        rates.take(other, 1, now).unwrap();
        assert!(rates.take(one, 1, now + Duration::from_secs(19)).is_err());
        rates.take(one, 1, now + Duration::from_secs(21)).unwrap();
        rates.take(one, 3, now + Duration::from_secs(600)).unwrap();
        assert!(rates.take(one, 1, now + Duration::from_secs(600)).is_err());
    }

    #[test]
    fn wider_networks_have_more_and_not_as_much_as_they_have_addresses() {
        // Addresses of one /64, of one /56, of one /48; and of one machine, of one /28, of one /24.
        for (sources, expected) in [
            (["2001:db8::1", "2001:db8::2", "2001:db8::3:4:5:6"].map(address).to_vec(), 2),
            ((0..9).map(|n| address(&format!("2001:db8:0:{n:x}::1"))).collect(), 4),
            ((0..9).map(|n| address(&format!("2001:db8:0:{n:x}00::1"))).collect(), 8),
            (["192.0.2.1", "::ffff:192.0.2.1"].map(address).to_vec(), 2),
            ((0..9).map(|n| address(&format!("192.0.2.{n}"))).collect(), 4),
            ((0..9).map(|n| address(&format!("192.0.2.{}", 16 * n))).collect(), 8),
            ((0..9).map(|n| address(&format!("192.0.{n}.1"))).collect::<Vec<_>>(), 18),
        ] {
            let (rates, now) = (Allowance::new(2, MINUTE), Instant::now());
            let asked = (0..5).flat_map(|_| sources.clone());
            let taken = asked.filter(|source| rates.take(*source, 1, now).is_ok()).count();
            assert_eq!(taken, expected, "{sources:?}");
        }
    }

    #[test]
    fn what_all_have_together_is_a_bound_of_its_own() {
        let (bytes, now) = (Allowance::new(100, MINUTE).of_all(250), Instant::now());
        for far in 0..2 {
            bytes.take(address(&format!("192.0.{far}.1")), 100, now).unwrap();
        }
        assert!(bytes.take(address("192.0.3.1"), 100, now).is_err());
        bytes.take(address("192.0.3.1"), 50, now).unwrap();
        assert!(bytes.take(address("192.0.4.1"), 101, now + MINUTE).is_err(), "more than there ever is");
    }

    #[test]
    fn networks_beyond_those_that_are_told_apart_share_one_allowance() {
        let (rates, now) = (Allowance::new(2, MINUTE), Instant::now());
        for number in 0..u32::try_from(MAX_NETWORKS).unwrap() {
            let _ = rates.take(IpAddr::V4((number << 8).into()), 1, now);
        }
        let beyond = |number: u32| rates.take(IpAddr::V4((0x0b00_0000 + (number << 8)).into()), 1, now);
        assert!([beyond(0), beyond(1), beyond(2)].iter().any(Result::is_err));
        assert!(rates.lock().by_network.len() <= MAX_NETWORKS + 1);
        // A minute later all are full again, and make room.
        rates.take(address("192.0.2.1"), 1, now + Duration::from_secs(61)).unwrap();
        assert_eq!(rates.lock().by_network.len(), 3);
    }

    #[test]
    fn an_address_and_its_networks_have_so_many_connections_at_a_time() {
        let connections = Connections::new(2, 100);
        let one = address("192.0.2.1");
        let places = [connections.enter(one), connections.enter(one)];
        assert!(places.iter().all(Option::is_some) && connections.enter(one).is_none());
        let beside: Vec<_> =
            (2..9).filter_map(|n| connections.enter(address(&format!("192.0.2.{n}")))).collect();
        assert_eq!(beside.len(), 2, "a /28 has two shares");
        assert!(connections.enter(address("198.51.100.1")).is_some());
        drop(places);
        assert!(connections.enter(one).is_some());
        drop(beside);
        let open = connections.open.lock().unwrap();
        assert!(open.all.is_empty() && open.tally.held.is_empty() && open.tally.all == 0);
    }

    #[tokio::test]
    async fn a_new_connection_takes_the_place_of_the_oldest_idle_one_of_the_largest_network() {
        let connections = Connections::new(2, 4);
        let enter = |text: &str| connections.enter(address(text));
        let lone = enter("203.0.113.1").unwrap();
        let strangers = ["192.0.2.1", "192.0.2.1", "192.0.2.2"].map(|text| enter(text).unwrap());
        // The oldest of the largest network is at work, and keeps its place.
        let working = strangers[0].work().unwrap();
        let guest = enter("198.51.100.1").unwrap();
        strangers[1].lost().await;
        assert!(strangers[1].work().is_none(), "what is lost answers nothing");
        let lost = |place: &Place| !place.open.lock().unwrap().all.contains_key(&place.number);
        assert!(!lost(&lone) && !lost(&strangers[0]) && !lost(&strangers[2]) && !lost(&guest));
        drop(working);
        let other = enter("198.51.100.2").unwrap();
        assert!(lost(&strangers[0]) && !lost(&lone), "now it is idle");
        // Who has lost a place frees no second one.
        drop(strangers);
        assert_eq!(connections.open.lock().unwrap().all.len(), 3);
        let places = ["192.0.2.1", "192.0.2.1"].map(enter);
        let all: Vec<&Place> = places.iter().flatten().chain([&lone, &guest, &other]).collect();
        let _working: Vec<_> = all.iter().filter_map(|place| place.work()).collect();
        assert!(enter("203.0.113.9").is_none(), "all are at work");
    }

    #[test]
    fn bytes_of_requests_are_bounded_for_all_and_for_each_network() {
        let room = Room::new(10, 25);
        let one = address("192.0.2.1");
        let held = room.take(one, 10).unwrap();
        assert!(room.take(one, 1).is_none());
        let other = room.take(address("198.51.100.1"), 10).unwrap();
        assert!(
            room.take(address("203.0.113.1"), 6).is_none() && room.take(address("203.0.113.1"), 5).is_some()
        );
        drop(held);
        assert!(room.take(one, 10).is_some());
        drop(other);
        assert!(room.0.lock().unwrap().held.is_empty());
    }
}
