//! A price book that is fetched while calls go on.

use std::time::Duration;

use tollgate::{app, pricing::Book};

use super::refresh::{page, price};
use crate::{
    cli::program::Program,
    support::{Line, Sandbox, Upstream, client::Head, sandbox::configuration},
};

/// A book with a model of every provider of which the built-in one has some, in which a token of
/// gpt-4o costs `input` dollars a million.
fn book(input: &str, version: u64) -> String {
    let title = format!(r#"{{"book":"far","version":"{version}","licence":"none"}}"#);
    let entry = format!(
        r#"{{"id":"gpt-4o","match":{{"starts_with":"gpt-4o"}},"prices":[{{"usd":{{"input":"{input}","output":"0"}}}}]}}"#
    );
    let known = Book::built_in();
    let lists = known.providers().into_iter().flat_map(|provider| {
        let opening = format!(r#"{{"provider":"{provider}"}}"#);
        [opening, entry.clone()]
    });
    let lines: Vec<String> = std::iter::once(title).chain(lists).collect();
    lines.join("\n")
}

/// Where books are, played by hand.
struct Shop(Upstream);

impl Shop {
    async fn open() -> (Self, String) {
        let shop = Self(Upstream::bind().await);
        let yaml = shop.yaml("today");
        (shop, yaml)
    }

    fn yaml(&self, which: &str) -> String {
        let addr = self.0.addr();
        format!("pricing: {{url: \"http://{addr}/prices?of={which}&token=hush\"}}")
    }

    /// The next request, which `answer` is given to.
    async fn answers(&self, answer: impl AsRef<[u8]>) -> (Head, Line) {
        let mut line = self.0.accept().await;
        let head = line.head().await;
        // Whoever reads no more than is allowed may be gone before the end.
        let _sent = tokio::io::AsyncWriteExt::write_all(&mut line.socket, answer.as_ref()).await;
        (head, line)
    }

    /// Has `sandbox` fetch its book, which is answered so. Returns what was asked.
    async fn sells(&self, sandbox: &Sandbox, status: &str, headers: &str, body: &str) -> Head {
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
        // The connection is closed, so that each is a new one.
        let played = async { self.answers(answer).await.0 };
        let ((), head) = tokio::join!(sandbox.app.fetch_prices(), played);
        head
    }
}

fn count(sandbox: &Sandbox, event: &str) -> f64 {
    sandbox.metric(&format!("tollgate_price_books_total{{event=\"{event}\"}}"))
}

#[track_caller]
fn counted(sandbox: &Sandbox, wanted: [f64; 4]) {
    let found = ["used", "unchanged", "refused", "failed"].map(|event| count(sandbox, event));
    assert!(
        found
            .iter()
            .zip(wanted)
            .all(|(found, wanted)| (found - wanted).abs() < f64::EPSILON),
        "{found:?}, not {wanted:?}"
    );
}

fn far(nanos: i64, version: u64) -> (i64, String) {
    (nanos, format!("far {version}"))
}

#[tokio::test]
async fn a_book_is_fetched_asked_for_by_its_version_and_kept_for_the_next_start() {
    let (shop, yaml) = Shop::open().await;
    let sandbox = Sandbox::new(&yaml);
    let built_in = price(&sandbox).await;
    assert!(built_in.1.starts_with("genai-prices"), "{built_in:?}");

    let marks = "etag: W/\"1\"\r\nlast-modified: Tue, 24 Nov 2026 10:00:00 GMT\r\n";
    let head = shop.sells(&sandbox, "200 OK", marks, &book("3", 1)).await;
    assert_eq!(head.first_line, "GET /prices?of=today&token=hush HTTP/1.1");
    assert_eq!(head.header("if-none-match"), None);
    assert_eq!(price(&sandbox).await, far(3_000, 1));
    let shown = page(&sandbox).await;
    assert!(shown.contains("far 1, the latest at 20"), "{shown}");

    let head = shop.sells(&sandbox, "304 Not Modified", "", "").await;
    assert_eq!(head.header("if-none-match"), Some("W/\"1\""));
    assert_eq!(
        head.header("if-modified-since"),
        Some("Tue, 24 Nov 2026 10:00:00 GMT")
    );
    // A server that does not know versions.
    shop.sells(&sandbox, "200 OK", "", &book("3", 1)).await;
    counted(&sandbox, [2.0, 2.0, 0.0, 0.0]);
    let head = shop.sells(&sandbox, "200 OK", "", &book("4", 2)).await;
    assert_eq!(head.header("if-none-match"), Some("W/\"1\""));
    assert_eq!(price(&sandbox).await, far(4_000, 2));
    counted(&sandbox, [3.0, 2.0, 0.0, 0.0]);

    // An edit of something else leaves it in force; another address is another book.
    let mut sandbox = sandbox;
    let edited = format!("{yaml}\nlimits: {{in_flight: 7}}");
    let config = configuration(&edited, sandbox.directory.path(), &sandbox.mock.url());
    sandbox.app.reload(config).await.unwrap();
    assert_eq!(price(&sandbox).await, far(4_000, 2));
    let config = configuration(
        &shop.yaml("tomorrow"),
        sandbox.directory.path(),
        &sandbox.mock.url(),
    );
    sandbox.app.reload(config).await.unwrap();
    assert_eq!(price(&sandbox).await, built_in);

    // The last good one is there after a start, before the server was asked.
    let sandbox = sandbox.restarted(&yaml).await;
    assert_eq!(price(&sandbox).await, far(4_000, 2));
    let sandbox = sandbox.restarted(&shop.yaml("tomorrow")).await;
    assert_eq!(price(&sandbox).await, built_in);
}

#[tokio::test]
async fn what_is_no_good_book_is_refused_in_its_own_words_and_the_one_before_stays() {
    let (shop, yaml) = Shop::open().await;
    let sandbox = Sandbox::new(&yaml);
    shop.sells(&sandbox, "200 OK", "", &book("3", 1)).await;

    let lacking = book("4", 2).replace("\"provider\":\"anthropic\"", "\"provider\":\"other\"");
    let empty = book("4", 2).replacen("{\"id\"", "{\"provider\":\"void\"}\n{\"id\"", 1);
    let per_token = book("0.000004", 3);
    for (status, body, why) in [
        ("200 OK", &*lacking, "it has no model of anthropic"),
        ("200 OK", &*empty, "it has no model of "),
        ("200 OK", &*per_token, "multiply it by 1,000,000"),
        ("200 OK", "<html>", "line 1 of the price book is wrong"),
        ("200 OK", "", "line 1 of the price book is wrong"),
        ("500 Oh", "no", "status 500"),
        ("302 Found", "", "redirections are not followed"),
        ("304 Not Modified", "", "status 304"),
    ] {
        shop.sells(&sandbox, status, "location: /\r\n", body).await;
        let shown = page(&sandbox).await;
        assert!(shown.contains(why), "no {why} in {shown}");
        assert!(!shown.contains("hush"), "{shown}");
        assert_eq!(price(&sandbox).await, far(3_000, 1));
    }
    counted(&sandbox, [2.0, 0.0, 5.0, 3.0]);
    // What `prices` and `check` say, which are other processes.
    let config = configuration(&yaml, sandbox.directory.path(), &sandbox.mock.url());
    let trouble = app::price_trouble(&config).unwrap();
    assert!(
        trouble.contains("could not be fetched at 20") && trouble.contains("status 304"),
        "{trouble}"
    );
    assert_eq!(app::pricing(&config).unwrap().book(), "far 1");

    shop.sells(&sandbox, "200 OK", "", &book("5", 4)).await;
    assert_eq!(price(&sandbox).await, far(5_000, 4));
    let shown = page(&sandbox).await;
    assert!(!shown.contains("the one before stays"), "{shown}");
    assert_eq!(app::price_trouble(&config), None);
    assert_eq!(app::pricing(&config).unwrap().book(), "far 4");
}

#[tokio::test]
async fn half_a_book_one_without_end_and_one_that_does_not_come_are_left() {
    let (shop, yaml) = Shop::open().await;
    let sandbox = Sandbox::new(&yaml);
    shop.sells(&sandbox, "200 OK", "", &book("3", 1)).await;

    // Half of it, cut where a line ends.
    let whole = book("4", 2);
    let half: String = whole.split_inclusive('\n').take(3).collect();
    let length = whole.len();
    let half = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{half}");
    let played = async { drop(shop.answers(half).await) };
    tokio::join!(sandbox.app.fetch_prices(), played);
    assert!(page(&sandbox).await.contains("the answer broke off"));

    // One byte more than is read, of unknown length.
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.resize(endless.len() + (16 << 20) + 1, b' ');
    tokio::join!(sandbox.app.fetch_prices(), shop.answers(endless));
    assert!(page(&sandbox).await.contains("larger than 16MiB"));

    // One whose end is waited for.
    let slow = async {
        let line = shop.answers("HTTP/1.1 200 OK\r\n\r\n{").await;
        tokio::time::pause();
        line
    };
    tokio::join!(sandbox.app.fetch_prices(), slow);
    tokio::time::resume();
    assert!(page(&sandbox).await.contains("longer than 60 s"));
    assert_eq!(price(&sandbox).await, far(3_000, 1));
    counted(&sandbox, [2.0, 0.0, 0.0, 3.0]);

    // Nobody is there.
    drop(shop);
    sandbox.app.fetch_prices().await;
    assert!(page(&sandbox).await.contains("cannot connect"));
    let sandbox = sandbox.restarted(&yaml).await;
    assert_eq!(price(&sandbox).await, far(3_000, 1));
}

#[tokio::test]
async fn it_is_fetched_at_the_start_and_when_it_is_due_sooner_after_one_that_did_not_come() {
    let (shop, yaml) = Shop::open().await;
    let sandbox = Sandbox::new(&yaml);
    let unavailable = "HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n";
    let played = async {
        let line = shop.answers(unavailable).await;
        while count(&sandbox, "failed") < 1.0 {
            tokio::task::yield_now().await;
        }
        drop(line);
    };
    tokio::select! {
        () = sandbox.app.keep_house() => panic!("it ends"),
        () = played => {},
    }
    let passes = async |minutes| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_mins(minutes)).await;
        tokio::time::resume();
    };
    // Nobody would answer.
    sandbox.app.fetch_due_prices().await;
    passes(9).await;
    sandbox.app.fetch_due_prices().await;
    counted(&sandbox, [1.0, 0.0, 0.0, 1.0]);

    passes(2).await;
    let body = book("3", 1);
    let good = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    tokio::join!(sandbox.app.fetch_due_prices(), shop.answers(&good));
    counted(&sandbox, [2.0, 0.0, 0.0, 1.0]);
    passes(21 * 60).await;
    sandbox.app.fetch_due_prices().await;
    counted(&sandbox, [2.0, 0.0, 0.0, 1.0]);
    passes(3 * 60).await;
    tokio::join!(sandbox.app.fetch_due_prices(), shop.answers(&good));
    counted(&sandbox, [2.0, 1.0, 0.0, 1.0]);
}

#[tokio::test]
async fn doctor_moves_limits_at_the_prices_of_the_fetched_book() {
    let (shop, yaml) = Shop::open().await;
    let sandbox = Sandbox::new(&yaml);
    let dear = book("3", 1).replace(r#""output":"0""#, r#""output":"500""#);
    shop.sells(&sandbox, "200 OK", "", &dear).await;
    let directory = sandbox.stop().await;
    let at = |name: &str| directory.path().join(name).display().to_string();
    let text = format!(
        "{yaml}\nbudgets: {{daily: 20}}\nstore: {{path: '{}'}}\nledger: {{path: '{}'}}\ntracing: \
         {{processors: []}}\n",
        at("data"),
        at("data/journal")
    );
    let program = Program::new().with("tollgate.yaml", &text);
    let ran = program.run(&["doctor"]);
    let held = "✓ daily           $20.00 a day: counted, ";
    assert!(ran.stdout.contains(held), "{}", ran.stdout);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
}
