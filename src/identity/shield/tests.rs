use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use proptest::prelude::*;

use super::count::{reserve, settle};
use super::*;
use crate::config;
use crate::storage::shield::TriesRow;

const NOW: i64 = 1_800_000_000;

/// What directories do: lock at `threshold`, forget each wrong password a window after it (OpenLDAP) or all a window after the last
/// (Active Directory). A right password ends the count.
struct Directory {
    threshold: usize,
    window: i64,
    since_each: bool,
    wrong: Vec<i64>,
    locked: bool,
}

impl Directory {
    fn bind(&mut self, right: bool, now: i64) {
        if self.since_each {
            self.wrong.retain(|at| now - at < self.window);
        } else if self.wrong.last().is_some_and(|last| now - last >= self.window) {
            self.wrong.clear();
        }
        if right {
            self.wrong.clear();
        } else {
            self.wrong.push(now);
        }
        self.locked |= self.wrong.len() >= self.threshold;
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Somebody begins to try.
    Try {
        stranger: bool,
        right: bool,
    },
    /// The directory decides one of those under way, and says so; or its answer is lost; or it was never asked.
    Decide(usize),
    Lose(usize),
    Spare(usize),
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (any::<bool>(), 0..5u8).prop_map(|(stranger, n)| Step::Try { stranger, right: n == 0 }),
        4 => (0..8usize).prop_map(Step::Decide),
        1 => (0..8usize).prop_map(Step::Lose),
        1 => (0..8usize).prop_map(Step::Spare),
        2 => (0..2_500i64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn no_order_of_events_locks_anybody_out(steps in steps(), threshold in 3u32..8, since_each: bool) {
        let window = 1_800;
        let limits = Limits::below(threshold, Duration::from_secs(1_800));
        let mut directory = Directory { threshold: threshold as usize, window, since_each, wrong: Vec::new(), locked: false };
        let (mut row, mut now, mut under_way, mut lost) = (TriesRow::default(), NOW, Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Try { stranger, right } => {
                    if let Room::Yes(ticket) = reserve(&mut row, limits, stranger, now) {
                        under_way.push((ticket, right));
                    }
                }
                Step::Decide(n) if n < under_way.len() => {
                    let (ticket, right) = under_way.remove(n);
                    directory.bind(right, now);
                    settle(&mut row, ticket, if right { Proof::Right } else { Proof::Wrong });
                }
                Step::Lose(n) if n < under_way.len() => {
                    let (ticket, right) = under_way.remove(n);
                    settle(&mut row, ticket, Proof::InDoubt);
                    lost.push(right);
                }
                Step::Spare(n) if n < under_way.len() => {
                    settle(&mut row, under_way.remove(n).0, Proof::Uncounted);
                }
                // What is under way is decided before long: an answer is waited for for some seconds.
                Step::Wait(seconds) if under_way.is_empty() => {
                    // What a hung directory still held takes effect when it goes on.
                    lost.drain(..).for_each(|right| directory.bind(right, now));
                    now += seconds;
                }
                _ => {}
            }
            prop_assert!(!directory.locked, "{row:?}");
        }
    }
}

fn limits() -> Limits {
    Limits::below(5, Duration::from_secs(1_800))
}

#[track_caller]
fn ticket(room: Room) -> Ticket {
    match room {
        Room::Yes(ticket) => ticket,
        Room::No { .. } => panic!("{room:?}"),
    }
}

fn wrong(row: &mut TriesRow, stranger: bool, now: i64) -> bool {
    match reserve(row, limits(), stranger, now) {
        Room::Yes(ticket) => {
            settle(row, ticket, Proof::Wrong);
            true
        }
        Room::No { .. } => false,
    }
}

#[test]
fn strangers_have_two_less_and_the_last_is_kept() {
    let mut row = TriesRow::default();
    assert_eq!([1, 2, 3, 4].map(|second| wrong(&mut row, true, NOW + second)), [true, true, true, false]);
    assert_eq!([5, 6].map(|second| wrong(&mut row, false, NOW + second)), [true, false]);
    let Room::No { wait, undecided } = reserve(&mut row, limits(), true, NOW + 7) else { panic!() };
    assert!(!undecided && wait == 1_800 + CLOCK + 5 - 7 + 1, "{wait}");
    assert!(!wrong(&mut row, true, NOW + 6 + wait - 1) && wrong(&mut row, true, NOW + 7 + wait));
}

#[test]
fn all_sources_of_a_house_give_strangers_the_same() {
    let sources = [Limits::below(10, Duration::from_secs(900)), Limits::of_rate(20, Duration::from_secs(300)), limits()];
    let house = sources.into_iter().reduce(Limits::under).unwrap();
    for own in sources {
        let limits = own.under(house);
        assert_eq!((limits.strangers, limits.window), (3, 1_800));
        assert_eq!(limits.strangers + limits.kept, own.strangers + own.kept, "networks that are known lose nothing");
    }
}

#[test]
fn two_names_of_one_person_stay_below_the_threshold_together() {
    for threshold in 3..50 {
        let each = Limits::below(threshold, Duration::from_secs(60)).halved();
        assert!(each.strangers >= 1 && 2 * (each.strangers + each.kept) < i64::from(threshold), "{threshold}: {each:?}");
    }
}

const CLOCK: i64 = crate::tokens::CLOCK_MARGIN;

#[test]
fn a_right_password_frees_the_person_and_not_the_strangers() {
    let mut row = TriesRow::default();
    assert!((0..3).all(|n| wrong(&mut row, true, NOW + n)));
    let own = ticket(reserve(&mut row, limits(), false, NOW + 10));
    settle(&mut row, own, Proof::Right);
    assert!(!wrong(&mut row, true, NOW + 11), "what strangers had they have had");
    assert!((12..16).all(|n| wrong(&mut row, false, NOW + n)), "the directory counts from the beginning, and so do we");
    assert!(!wrong(&mut row, false, NOW + 16));
}

#[test]
fn what_is_under_way_is_not_cleared_by_a_right_password() {
    let mut row = TriesRow::default();
    let guesses = [0, 1].map(|n| ticket(reserve(&mut row, limits(), true, NOW + n)));
    let own = ticket(reserve(&mut row, limits(), false, NOW + 2));
    settle(&mut row, guesses[0], Proof::Wrong);
    settle(&mut row, own, Proof::Right);
    settle(&mut row, guesses[1], Proof::Wrong);
    assert_eq!((row.failed, row.in_flight), (2, 0));
}

#[test]
fn signing_in_often_prolongs_nothing() {
    let mut row = TriesRow::default();
    let lost = ticket(reserve(&mut row, limits(), true, NOW));
    settle(&mut row, lost, Proof::InDoubt);
    for minute in 1..30 {
        let own = ticket(reserve(&mut row, limits(), false, NOW + minute * 60));
        settle(&mut row, own, Proof::Right);
    }
    assert_eq!((row.in_flight, row.guesses), (1, 1), "{row:?}");
    let spared = ticket(reserve(&mut row, limits(), true, NOW + 2_400));
    assert_eq!((row.in_flight, row.guesses), (1, 1), "{row:?}");
    settle(&mut row, spared, Proof::Uncounted);
    assert_eq!((row.in_flight, row.guesses), (0, 0));
}

#[test]
fn a_clock_that_was_far_ahead_blocks_nobody_for_ever() {
    let mut row = TriesRow::default();
    assert!((0..3).all(|n| wrong(&mut row, true, NOW + 1_000_000 + n)));
    assert!(wrong(&mut row, true, NOW));
}

#[test]
fn one_login_however_it_is_written() {
    for same in ["josé.b", "JOSÉ.B", "  José.b ", "jose\u{301}.b", "jo\u{ad}se.b", "ｊｏｓｅ.b", "jo\u{200b}sé.b"] {
        assert_eq!(fold(same), "jose.b", "{same:?}");
    }
    assert_eq!(fold("a \u{a0} b"), "a b");
    assert_ne!(fold("anna"), fold("anne"));
    assert_eq!(pretended("Anna@lab.test"), pretended("anna"));
    assert_ne!(pretended("@lab.test"), pretended("@other.test"));
    assert_ne!(pretended_name("uid=anna,ou=a"), pretended_name("uid=anna,ou=b"));
}

struct House {
    shield: Arc<Shield>,
    storage: Storage,
    clock: Arc<AtomicI64>,
    asked: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

fn house() -> House {
    let house = empty_house();
    house.storage.migrate().unwrap();
    house
}

/// Its database has no tables.
fn empty_house() -> House {
    let folder = tempfile::tempdir().unwrap();
    let url = Secret::new(format!("sqlite:{}", folder.path().join("test.db").display()));
    let storage = Storage::open(&config::Database { url, ..Default::default() }).unwrap();
    let (clock, manual) = Clock::manual(NOW);
    let shield = Arc::new(Shield::fresh(storage.clone(), clock));
    House { shield, storage, clock: manual, asked: Arc::default(), _folder: folder }
}

impl House {
    /// A try for Anna, whose password is `right`; answers the word of the refusal.
    async fn attempt(&self, network: &str, password: &str) -> &'static str {
        let (source, password) = (SourceName::from("corp"), Secret::new(password));
        let attempt = Try { login: "anna", password: &password, network, shield: &self.shield, house: None };
        let target = Target { source: &source, subject: "1", limits: Some(limits()), password_state: "" };
        let ask = async {
            self.asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            match password.expose() {
                "right" => (Proof::Right, Authentication::Unavailable(Outage::new(&source, "right"))),
                "down" => (Proof::Uncounted, Authentication::Unavailable(Outage::new(&source, "down"))),
                _ => (Proof::Wrong, Authentication::Refused(Refusal::new(RefusalReason::BadPassword, ""))),
            }
        };
        match self.shield.guard(target, &attempt, ask).await {
            Authentication::Refused(refusal) => refusal.reason.as_str(),
            Authentication::Unavailable(outage) if outage.reason == "right" => "in",
            Authentication::Unavailable(_) => "unavailable",
            Authentication::Authenticated(_) => panic!(),
        }
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::SeqCst)
    }
}

#[tokio::test]
async fn whoever_was_here_before_gets_in_during_an_attack() {
    let house = house();
    assert_eq!(house.attempt("home", "right").await, "in");
    for n in 0..10 {
        let expected = if n < 3 { "bad_password" } else { "shielded" };
        assert_eq!(house.attempt(&format!("stranger {n}"), &format!("guess {n}")).await, expected);
    }
    assert_eq!(house.asked(), 4);
    assert_eq!(house.attempt("elsewhere", "right").await, "shielded", "a stranger is whoever was not here before");
    assert_eq!(house.attempt("home", "right").await, "in");
    assert!(house.shield.is_familiar(" ANNA", "home").await.unwrap());
    assert!(!house.shield.is_familiar("anna", "elsewhere").await.unwrap());
    house.clock.fetch_add(90 * 86_400, Ordering::SeqCst);
    assert!(!house.shield.is_familiar("anna", "home").await.unwrap(), "not for ever");
}

#[tokio::test]
async fn the_same_wrong_password_is_tried_once_in_a_window_however_often_it_comes() {
    let house = house();
    for n in 0..50 {
        let word = house.attempt("home", "old").await;
        assert_eq!(word, if n == 0 { "bad_password" } else { "known_bad_password" });
        house.clock.fetch_add(30, Ordering::SeqCst);
    }
    assert_eq!(house.asked(), 1);
    // Through a whole day every ten minutes: never two in the directory's window.
    let mut asked = Vec::new();
    for n in 0..144 {
        house.attempt("home", "old").await;
        if house.asked() > 0 {
            asked.push(n * 600);
        }
        house.clock.fetch_add(600, Ordering::SeqCst);
    }
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] > 1_800), "{asked:?}");
}

#[tokio::test]
async fn identical_requests_at_once_are_one_try() {
    let house = house();
    let words = futures_util::future::join_all((0..20).map(|_| house.attempt("home", "old"))).await;
    assert_eq!(house.asked(), 1);
    assert_eq!(words.iter().filter(|word| **word == "bad_password").count(), 1, "{words:?}");
    assert!(words.iter().all(|word| word.ends_with("bad_password")));
    let words = futures_util::future::join_all((0..20).map(|_| house.attempt("home", "right"))).await;
    assert!(words.iter().all(|word| *word == "in") && house.asked() == 1, "{words:?}");
    // Whoever comes later is asked for anew.
    assert_eq!(house.attempt("home", "right").await, "in");
    assert_eq!(house.asked(), 1);
}

#[tokio::test]
async fn outages_are_given_back_and_without_the_database_nobody_is_asked() {
    let house = house();
    for _ in 0..20 {
        assert_eq!(house.attempt("home", "down").await, "unavailable");
    }
    assert_eq!(house.asked(), 20);
    let broken = empty_house();
    assert_eq!(broken.attempt("home", "right").await, "unavailable");
    assert_eq!(broken.asked(), 0);
}

#[test]
fn all_nodes_of_a_database_have_one_key_and_a_changed_one_begins_anew() {
    let house = house();
    let kek = |byte: u8| {
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [byte; 32]);
        let keys = config::Keys { encryption_key: Some(Secret::new(text)), ..Default::default() };
        Kek::load(&config::Config { keys, ..Default::default() }, false).unwrap()
    };
    let hash = |byte| Hasher::open(&house.storage, &kek(byte)).unwrap().hash("a", &["b", "c"]);
    assert_eq!(hash(1), hash(1));
    let before = hash(1);
    assert_ne!(hash(2), before);
    assert_ne!(hash(2), Hasher::open(&house.storage, &kek(2)).unwrap().hash("a", &["bc", ""]));
}
