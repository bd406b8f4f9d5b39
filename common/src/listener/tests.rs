use std::net::SocketAddr;

use axum::routing::get;
use tokio::{io::AsyncWriteExt as _, sync::Notify, task::JoinHandle, time::Instant};

use super::*;

/// A listener with an answer that waits to be told, and one that never ends.
struct House {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    asked: Arc<Notify>,
    told: Arc<Notify>,
}

impl House {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (asked, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let waits = {
            let (asked, told) = (Arc::clone(&asked), Arc::clone(&told));
            async move || {
                asked.notify_one();
                told.notified().await;
                "told"
            }
        };
        let router = Router::new()
            .route("/", get(async || "here"))
            .route("/waits", get(waits));
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let serving = tokio::spawn(serve(listener, None, router, stop.clone()));
        Self {
            address,
            stop,
            serving,
            asked,
            told,
        }
    }

    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }
}

/// What comes until the connection is closed.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

const HALF: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n";
const WHOLE: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn whoever_says_nothing_or_half_a_head_is_shown_out() {
    let house = House::open().await;
    let silent = [
        house.send(b"").await,
        house.send(b"PRI * HT").await,
        house.send(HALF).await,
    ];
    let start = Instant::now();
    for stream in silent {
        assert_eq!(rest(stream).await, "");
    }
    assert!(start.elapsed() < FIRST_REQUEST * 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_stop_answers_what_was_asked_and_waits_for_nothing_else() {
    let house = House::open().await;
    let mut idle = house.send(WHOLE).await;
    let mut answer = [0; 15];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    let mut half_of_a_second = house.send(WHOLE).await;
    half_of_a_second.read_exact(&mut answer).await.unwrap();
    half_of_a_second.write_all(HALF).await.unwrap();
    let others = [
        house.send(b"").await,
        house.send(HALF).await,
        house.send(b"PRI").await,
    ];
    let asked = house.send(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n").await;
    house.asked.notified().await;

    let start = Instant::now();
    house.stop.cancel();
    for stream in others {
        assert_eq!(rest(stream).await, "");
    }
    assert!(rest(idle).await.ends_with("here"));
    assert!(rest(half_of_a_second).await.ends_with("here"));
    assert!(!house.serving.is_finished(), "one is still to be answered");
    assert!(
        TcpStream::connect(house.address).await.is_err(),
        "nothing is accepted any more"
    );
    house.told.notify_one();
    assert!(rest(asked).await.ends_with("told"));
    house.serving.await.unwrap();
    assert!(start.elapsed() < FLUSH * 5, "{:?}", start.elapsed());
}
