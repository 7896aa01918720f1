//! A directory is stopped and hung in the middle of whatever it does: people wait or are told to come back, nobody becomes somebody
//! else, and all other requests go on.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{Client, Database, Ldap, Samba, Server, Setup, eventually, on_both_databases};

const GRANTS: [&str; 4] = ["--grant", "password", "--grant", "client_credentials"];

const IMPATIENT: &str =
    "connect_timeout = \"1s\"\noperation_timeout = \"1s\"\nlogin_deadline = \"3s\"\nbreaker_open = \"200ms\"\ngroup_cache = \"1ms\"\n";

const LIMIT: Duration = Duration::from_secs(30);

/// Wrong passwords all the while, and nobody here who counts them.
const GUESSED: &str = "lockout_threshold = 0\n[limits]\nlogin_failures = \"1000000/1m\"\naddress_failures = \"1000000/1m\"\n";

/// What services do meanwhile: each a token and an introspection.
#[derive(Default)]
struct Others {
    here: AtomicUsize,
    /// At a server without a directory, which says how busy the machine is.
    elsewhere: AtomicUsize,
}

/// How many of [`Others`] came in a span that is always the same.
#[derive(Clone, Copy, Debug)]
struct Pace {
    here: usize,
    elsewhere: usize,
}

impl Others {
    fn so_far(&self) -> Pace {
        Pace { here: self.here.load(Ordering::SeqCst), elsewhere: self.elsewhere.load(Ordering::SeqCst) }
    }

    fn pace(&self) -> Pace {
        let before = self.so_far();
        a_moment(2_000);
        let after = self.so_far();
        Pace { here: after.here - before.here, elsewhere: after.elsewhere - before.elsewhere }
    }
}

/// Before the directory broke, and while it hung; None where it does not hang.
type Paces = Option<(Pace, Pace)>;

/// One token and one introspection after the other, until it is over and there were a few.
async fn served(server: &Server, client: &Client, over: &AtomicBool, count: &AtomicUsize) {
    while !over.load(Ordering::SeqCst) || count.load(Ordering::SeqCst) < 20 {
        let own = server.own_token(client).await;
        assert!(server.is_active(client, &own).await);
        count.fetch_add(1, Ordering::SeqCst);
    }
}

/// Who signs in, and what they must then be.
type Person = (&'static str, &'static str);

/// Signs in once: as nobody, or as exactly this person.
async fn once(server: &Server, client: &Client, (name, password): Person) -> bool {
    let answer = server.sign_in(client, name, password).await;
    if answer.status != 200 {
        answer.unavailable();
        a_while().await;
        return false;
    }
    let meaning = server.introspect(client, &answer.access_token()).await;
    assert_eq!(meaning.text("username"), name, "somebody became somebody else");
    true
}

/// As somebody does who was told to come back, if sooner than told.
async fn a_while() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// People sign in all the while `break_it` breaks the directory and mends it; so do services, who must not notice. Where `guessed`,
/// somebody else tries the second person's name with one wrong password after the other, between all the right ones.
async fn through_an_outage(
    server: &Server,
    client: &Client,
    people: [Person; 2],
    guessed: bool,
    break_it: impl Fn(&Others) -> Paces + Send + 'static,
) {
    for person in people {
        assert!(once(server, client, person).await);
    }
    let over = Arc::new(AtomicBool::new(false));
    let control = Setup::new(Database::sqlite()).start().await;
    let its_client = control.client_add(&GRANTS).await;
    let counted = Arc::new(Others::default());
    let breaking = tokio::task::spawn_blocking({
        let (over, counted) = (over.clone(), counted.clone());
        move || {
            let paces = break_it(&counted);
            over.store(true, Ordering::SeqCst);
            paces
        }
    });
    let sign_ins = async |person| {
        while !over.load(Ordering::SeqCst) {
            once(server, client, person).await;
        }
    };
    let guesses = async {
        let (mut tried, mut refused) = (0, 0);
        while guessed && !over.load(Ordering::SeqCst) {
            tried += 1;
            let answer = server.sign_in(client, people[1].0, &format!("wrong-{tried}")).await;
            if answer.status == 400 {
                answer.refused(400, "invalid_grant");
                refused += 1;
            } else {
                // Never 200: a connection on which somebody else's bind succeeded late says nothing about this one.
                answer.unavailable();
                a_while().await;
            }
        }
        eprintln!("{refused} of {tried} wrong passwords were refused, the others could not be asked about");
        assert_eq!(refused > 0, guessed, "no wrong password reached the directory");
    };
    let others = async {
        tokio::join!(served(server, client, &over, &counted.here), served(&control, &its_client, &over, &counted.elsewhere));
        assert_eq!(server.get("/readyz").await.status, 200, "a server without its directory still serves tokens");
    };
    let [first, second] = people;
    tokio::join!(sign_ins(first), sign_ins(second), sign_ins(first), sign_ins(second), guesses, others);
    if let Some((before, during)) = breaking.await.unwrap() {
        let share = |pace: Pace| pace.here as f64 / pace.elsewhere.max(1) as f64;
        let kept = share(during) / share(before);
        eprintln!("services in equal spans: {before:?} before, {during:?} while the directory hung: {kept:.2} of their pace was kept");
        assert!(kept >= 0.3, "others lost their speed: {before:?} before, {during:?} while the directory hung");
    }
    for person in people {
        eventually(LIMIT, "the directory is used again", async || once(server, client, person).await).await;
        assert!(once(server, client, person).await);
    }
    let expected = if guessed { vec![format!("{}|bad_password", people[1].0)] } else { Vec::new() };
    let refused = "SELECT DISTINCT username, reason FROM audit_records WHERE event = 'sign_in_refused'";
    assert_eq!(server.rows_when(expected.len(), refused).await, expected, "an outage was taken for an answer");
}

const ALICE_AND_CAROL: [Person; 2] = [("alice", "pw-alice"), ("carol", "pw-carol")];
const OK_AND_ANN: [Person; 2] = [("ok", "Passw0rd!ok"), ("ann", "Passw0rd!ann")];

/// A directory of the story's own whose policy locks nobody out.
fn without_lockout() -> Arc<Ldap> {
    let ldap = Ldap::private();
    ldap.modify("dn: cn=default,ou=policies,dc=lab,dc=test\nchangetype: modify\nreplace: pwdLockout\npwdLockout: FALSE\n");
    Arc::new(ldap)
}

/// Long enough for sign-ins to be caught in every step.
fn a_moment(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

on_both_databases! {
    async fn openldap_that_hangs_again_and_again(database) {
        let ldap = without_lockout();
        let server = Setup::new(database).ldap("lab", &ldap, &format!("{IMPATIENT}{GUESSED}")).start().await;
        let client = server.client_add(&GRANTS).await;
        let hung = ldap.clone();
        through_an_outage(&server, &client, ALICE_AND_CAROL, true, move |others| {
            let before = others.pace();
            // Shorter than the timeout, so that late answers come; then longer.
            for pause in [300, 500, 1_500] {
                hung.hang();
                a_moment(pause);
                hung.resume();
                a_moment(200);
            }
            hung.hang();
            let during = others.pace();
            a_moment(500);
            hung.resume();
            Some((before, during))
        })
        .await;
    }

    async fn openldap_that_stops(database) {
        let ldap = without_lockout();
        let server = Setup::new(database).ldap("lab", &ldap, &format!("{IMPATIENT}{GUESSED}")).start().await;
        let client = server.client_add(&GRANTS).await;
        let stopped = ldap.clone();
        through_an_outage(&server, &client, ALICE_AND_CAROL, true, move |_| {
            a_moment(1_000);
            stopped.stop();
            a_moment(500);
            stopped.start_again();
            None
        })
        .await;
    }

    async fn samba_that_hangs_and_stops(database) {
        let samba = Arc::new(Samba::private());
        let server = Setup::new(database).active_directory("ad", &samba, IMPATIENT).start().await;
        let client = server.client_add(&GRANTS).await;
        let broken = samba.clone();
        through_an_outage(&server, &client, OK_AND_ANN, false, move |others| {
            let before = others.pace();
            broken.hang();
            a_moment(500);
            broken.resume();
            a_moment(300);
            broken.hang();
            let during = others.pace();
            a_moment(500);
            broken.resume();
            a_moment(300);
            broken.stop();
            a_moment(300);
            broken.start_again();
            Some((before, during))
        })
        .await;
    }
}

/// A server that answers whatever comes with bytes that are nearly LDAP.
fn hostile(answers: Vec<Vec<u8>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (connection, answer) in listener.incoming().flatten().zip(answers.into_iter().cycle()) {
            std::thread::spawn(move || {
                let (mut connection, mut heard) = (connection, [0; 4096]);
                while connection.read(&mut heard).is_ok_and(|read| read > 0) && connection.write_all(&answer).is_ok() {}
            });
        }
    });
    port
}

/// Messages of a size that no memory may follow, and of shapes that a reader may stumble over.
fn nearly_ldap() -> Vec<Vec<u8>> {
    let bind = [0x30, 0x0c, 0x02, 0x01, 0x01, 0x61, 0x07, 0x0a, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00];
    // A success for the bind of the service account; what follows is another answer of the same kind.
    let mut answers = vec![bind.to_vec(), vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff], vec![0x30, 0x00], b"HTTP/1.1 200 OK\r\n\r\n".to_vec()];
    answers.push([[0x30, 0x84, 0x00, 0x7f, 0xff, 0xff].as_slice(), &[0x30; 100_000]].concat());
    for at in 0..bind.len() {
        for byte in [0x00, 0x7f, 0x80, 0xff] {
            let mut answer = bind.to_vec();
            answer[at] = byte;
            answers.push(answer);
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_directory_ends_nothing_and_lets_nobody_in() {
    let answers = nearly_ldap();
    let tries = answers.len();
    let urls = format!("urls = [\"ldap://127.0.0.1:{}\"]\ntls = \"none\"\ninsecure_plaintext = true\n", hostile(answers));
    let patience = IMPATIENT.replace("\"1s\"", "\"300ms\"").replace("200ms", "1ms");
    let section = Ldap::shared().section("lab", "lab.password", &format!("{urls}{patience}"));
    let section: String = section.lines().filter(|line| !line.starts_with("ca_file")).map(|line| format!("{line}\n")).collect();
    let server = Setup::new(Database::sqlite()).file("lab.password", Ldap::SERVICE_PASSWORD).config(&section).start().await;
    let client = server.client_add(&GRANTS).await;
    let process = server.process();
    for _ in 0..tries {
        server.sign_in(&client, "alice", "pw-alice").await.unavailable();
    }
    let own = server.own_token(&client).await;
    assert!(server.is_active(&client, &own).await);
    assert_eq!(server.process(), process);
    assert!(server.rows("SELECT id FROM grants").is_empty());
}
