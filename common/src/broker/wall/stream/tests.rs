use std::collections::VecDeque;

use amq_protocol::{
    frame::{AMQPFrame, parse_frame},
    protocol::{AMQPClass, basic},
};
use futures::{
    FutureExt as _,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
};
use proptest::prelude::*;

use super::{super::properties::tests as made, *};
use crate::broker::wall::{Meter, Verdict};

/// Gives out bytes in pieces of these sizes, over and over.
struct Pieces {
    bytes: VecDeque<u8>,
    sizes: Vec<usize>,
    next: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let size = self.sizes[self.next % self.sizes.len()];
        self.next += 1;
        let count = size.min(buf.len()).min(self.bytes.len());
        for (to, byte) in buf.iter_mut().zip(self.bytes.drain(..count)) {
            *to = byte;
        }
        Poll::Ready(Ok(count))
    }
}

/// What the client reads when these bytes come in pieces, and the accounts.
fn through(bytes: &[u8], sizes: &[usize], meter: Meter, frame_max: u32) -> (Vec<u8>, Arc<Accounts>) {
    let accounts = Arc::new(Accounts::new(meter));
    let pieces = Pieces {
        bytes: bytes.iter().copied().collect(),
        sizes: sizes.to_vec(),
        next: 0,
    };
    let mut walled = Walled::new(pieces, CancellationToken::new(), Arc::clone(&accounts), frame_max);
    let mut read = Vec::new();
    walled.read_to_end(&mut read).now_or_never().unwrap().unwrap();
    // The end of a connection ends its accounts: the tests look at them as they are before.
    std::mem::forget(walled);
    (read, accounts)
}

/// Says nothing, and takes everything.
struct Silent;

impl AsyncRead for Silent {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
}

impl AsyncWrite for Silent {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_ends_for_who_waits_for_it() {
    let cut = CancellationToken::new();
    let accounts = Arc::new(Accounts::new(Meter::default()));
    let mut walled = Walled::new(Silent, cut.clone(), accounts, 0);
    let mut buf = [0; 8];
    let reading = walled.read(&mut buf);
    let (read, ()) = tokio::join!(reading, async { cut.cancel() });
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    let written = walled.write(b"late").await;
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
}

fn frames(mut bytes: &[u8]) -> Vec<AMQPFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).unwrap();
        bytes = rest;
        frames.push(frame);
    }
    frames
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = (payload.len() as u32).to_be_bytes();
    [&[kind], &channel.to_be_bytes()[..], &size, payload, &[0xCE]].concat()
}

fn text(text: &[u8]) -> Vec<u8> {
    [&[text.len() as u8], text].concat()
}

fn deliver(channel: u16, tag: u64, key: &[u8]) -> Vec<u8> {
    let parts = [
        text(b"consumer"),
        tag.to_be_bytes().to_vec(),
        vec![0],
        text(b"x"),
        text(key),
    ];
    frame(1, channel, &[vec![0, 60, 0, 60], parts.concat()].concat())
}

fn content(channel: u16, body: usize, properties: &[u8]) -> Vec<u8> {
    let head = [&[0, 60, 0, 0], &(body as u64).to_be_bytes()[..]].concat();
    frame(2, channel, &[&head, properties].concat())
}

fn message(channel: u16, tag: u64, properties: &[u8], body: &[u8]) -> Vec<u8> {
    let bodies = body.chunks(1_000).flat_map(|part| frame(3, channel, part));
    let head = [
        deliver(channel, tag, b"key"),
        content(channel, body.len(), properties),
    ]
    .concat();
    head.into_iter().chain(bodies).collect()
}

fn fine() -> Vec<u8> {
    made::properties(&[made::entry(b"mine", b't', &[1])], b"m-1")
}

fn body_of(frames: &[AMQPFrame], channel: u16) -> Vec<u8> {
    let bodies = frames.iter().filter_map(|frame| match frame {
        AMQPFrame::Body(of, body) if *of == channel => Some(body.clone()),
        _ => None,
    });
    bodies.flatten().collect()
}

#[test]
fn what_cannot_be_read_is_mended_and_told_beside_it() {
    let bad = made::properties(&[], &[0xff, 0xfe]);
    let came = [message(1, 1, &fine(), b"{}"), message(1, 2, &bad, b"{\"a\":1}")].concat();
    for sizes in [&[1][..], &[7], &[3, 50], &[100_000]] {
        let (read, accounts) = through(&came, sizes, Meter::new(1 << 20), 0);
        let read = frames(&read);
        assert_eq!(body_of(&read, 1), b"{}{\"a\":1}");
        let account = accounts.of(1);
        assert_eq!(account.claim(1, 2).verdict, None);
        assert_eq!(
            account.claim(2, 7).verdict,
            Some(Verdict::Unreadable("message_id cannot be read: fffe".into()))
        );
    }
}

#[test]
fn what_there_is_no_room_for_comes_empty_and_its_neighbours_whole() {
    let large = vec![b'x'; 60_000];
    let (first, second) = large.split_at(30_000);
    // Frames of other channels come between those of one.
    let came = [
        message(1, 1, &fine(), &large),
        deliver(1, 2, b"key"),
        content(1, large.len(), &fine()),
        frame(3, 1, first),
        message(2, 1, &fine(), b"small"),
        frame(3, 1, second),
        message(1, 3, &fine(), b""),
    ]
    .concat();
    let (read, accounts) = through(&came, &[4_000], Meter::new(50_000), 0);
    let read = frames(&read);
    assert_eq!(body_of(&read, 1), large);
    assert_eq!(body_of(&read, 2), b"small");
    let account = accounts.of(1);
    assert_eq!(account.claim(1, 60_000).verdict, None);
    assert_eq!(
        account.claim(2, 0).verdict,
        Some(Verdict::Deferred { bytes: 60_000 })
    );
}

#[test]
fn a_frame_larger_than_agreed_is_made_smaller() {
    let tune = frame(
        1,
        0,
        &[&[0, 10, 0, 30][..], &[7, 255], &8_192_u32.to_be_bytes(), &[0, 1]].concat(),
    );
    let headers: Vec<_> = (0..20)
        .map(|at| made::entry(format!("h{at}").as_bytes(), b'S', &made::long(&[b'x'; 1_000])))
        .collect();
    let came = [tune, message(1, 1, &made::properties(&headers, b"m-1"), b"{}")].concat();
    let (read, accounts) = through(&came, &[777], Meter::default(), 0);
    let read = frames(&read);
    let Some(AMQPFrame::Header(1, header)) = read.iter().find(|frame| matches!(frame, AMQPFrame::Header(..)))
    else {
        panic!("no properties");
    };
    assert_eq!(header.body_size, 2);
    assert_eq!(header.properties.message_id().as_ref().unwrap().as_str(), "m-1");
    assert_eq!(accounts.of(1).claim(1, 2).verdict, None);

    // Of properties that large nothing is looked at.
    let huge = made::properties(
        &[made::entry(b"huge", b'S', &made::long(&vec![0; 2 << 20]))],
        b"m-1",
    );
    let (read, accounts) = through(&message(1, 1, &huge, b"{}"), &[50_000], Meter::default(), 0);
    assert_eq!(body_of(&frames(&read), 1), b"{}");
    assert!(matches!(
        accounts.of(1).claim(1, 2).verdict,
        Some(Verdict::Unreadable(_))
    ));
}

#[test]
fn a_routing_key_that_is_no_text_is_left_out() {
    let got = [
        &[0, 60, 0, 71][..],
        &9_u64.to_be_bytes(),
        &[1],
        &text(b"x"),
        &text(&[0xff]),
        &[0, 0, 0, 7],
    ]
    .concat();
    let returned = [
        &[0, 60, 0, 50][..],
        &[1, 56],
        &text(b"NO_ROUTE"),
        &text(b"x"),
        &text(&[0xff]),
    ]
    .concat();
    let came = [deliver(1, 5, &[0xff]), frame(1, 2, &got), frame(1, 3, &returned)].concat();
    let (read, _) = through(&came, &[10], Meter::default(), 0);
    let read = frames(&read);
    let [
        AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Deliver(delivered))),
        AMQPFrame::Method(2, AMQPClass::Basic(basic::AMQPMethod::GetOk(got))),
        AMQPFrame::Method(3, AMQPClass::Basic(basic::AMQPMethod::Return(returned))),
    ] = &read[..]
    else {
        panic!("{read:?}");
    };
    assert_eq!(
        (
            delivered.delivery_tag,
            delivered.exchange.as_str(),
            delivered.routing_key.as_str()
        ),
        (5, "x", "")
    );
    assert_eq!(
        (got.delivery_tag, got.message_count, got.routing_key.as_str()),
        (9, 7, "")
    );
    assert_eq!((returned.reply_code, returned.routing_key.as_str()), (312, ""));
}

#[test]
fn what_was_sent_from_here_and_is_returned_comes_without_its_body() {
    let returned = [
        &[0, 60, 0, 50][..],
        &[1, 56],
        &text(b"NO_ROUTE"),
        &text(b""),
        &text(b"q"),
    ]
    .concat();
    let come_back = [
        frame(1, 1, &returned),
        content(1, 3_000, &fine()),
        frame(3, 1, &[b'x'; 2_000]),
        frame(3, 1, &[b'x'; 1_000]),
    ];
    let came = [come_back.concat(), message(1, 1, &fine(), b"another")].concat();
    let (read, accounts) = through(&came, &[700], Meter::new(1 << 20), 0);
    let read = frames(&read);
    let Some(AMQPFrame::Header(1, header)) = read.get(1) else {
        panic!("{read:?}");
    };
    assert_eq!(header.body_size, 0);
    assert_eq!(body_of(&read, 1), b"another");
    assert_eq!(accounts.of(1).claim(1, 7).verdict, None);
}

#[test]
fn a_channels_end_gives_back_what_nobody_claimed() {
    let meter = Meter::new(1 << 20);
    let came = message(1, 1, &fine(), b"{}");
    let (_, accounts) = through(&came, &[1_000], meter.clone(), 0);
    assert!(meter.held() > 0);
    accounts.end_all();
    assert_eq!(meter.held(), 0);

    let closed = frame(1, 1, &[0, 20, 0, 41]);
    let (_, _accounts) = through(&[came, closed].concat(), &[1_000], meter.clone(), 0);
    assert_eq!(meter.held(), 0);
}

#[test]
fn what_is_no_frame_is_for_the_client_to_refuse() {
    for came in [
        &b"AMQP\0\0\x09\x01"[..],
        &frame(1, 1, b"\0\x3c\0\x3c")[..11],
        b"\x02\0\x01\0\0\0\x01aX and more",
    ] {
        let (read, _) = through(came, &[3], Meter::default(), 0);
        assert!(came.starts_with(&read));
    }
}

proptest! {
    #[test]
    fn whatever_is_published_the_client_reads_every_message(
        contents in prop::collection::vec((1_u16..4, prop::collection::vec(any::<u8>(), 2..80), 0_usize..3_000), 1..12),
        sizes in prop::collection::vec(1_usize..5_000, 1..6),
        limit in prop_oneof![Just(2_000_u64), Just(1 << 30)],
    ) {
        let mut came = Vec::new();
        for (tag, (channel, properties, body)) in (1..).zip(&contents) {
            came.extend(message(*channel, tag, properties, &vec![b'x'; *body]));
        }
        let (read, accounts) = through(&came, &sizes, Meter::new(limit), 0);
        let read = frames(&read);
        let headers = read.iter().filter(|frame| matches!(frame, AMQPFrame::Header(..))).count();
        prop_assert_eq!(headers, contents.len());
        let (mut whole, mut deferred) = (0, 0);
        for (tag, (channel, _, body)) in (1..).zip(&contents) {
            match accounts.of(*channel).claim(tag, *body).verdict {
                Some(Verdict::Deferred { .. }) => deferred += 1,
                _ => whole += body,
            }
        }
        let bodies: usize = (1..4).map(|channel| body_of(&read, channel).len()).sum();
        prop_assert_eq!(bodies, whole);
        prop_assert!(deferred == 0 || limit == 2_000);
    }

    #[test]
    fn what_the_client_can_read_passes_as_it_is(
        bodies in prop::collection::vec(0_usize..4_000, 1..8), sizes in prop::collection::vec(1_usize..3_000, 1..4)
    ) {
        let mut came = Vec::new();
        for (tag, body) in (1..).zip(&bodies) {
            came.extend(message(1, tag, &fine(), &vec![b'x'; *body]));
            came.extend(frame(8, 0, b""));
        }
        let (read, _) = through(&came, &sizes, Meter::new(1 << 30), 0);
        prop_assert!(read == came);
    }
}
