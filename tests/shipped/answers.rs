//! Answers that cannot be read, or that stall: tests/faults has no server that says just any bytes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use crate::harness::{FAMILY, Machine, Run};

/// Serves one connection after the other; the port.
pub fn listen(serve: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || listener.incoming().for_each(|tcp| serve(tcp.expect("a client"))));
    port
}

/// Answers the record that comes with these very bytes, and then says nothing more.
pub fn answer(mut stream: impl Read + Write, answer: &[u8]) {
    let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
    // The record's last characters.
    while !heard.ends_with(b"]}]}") {
        match stream.read(&mut piece) {
            Ok(count @ 1..) => heard.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
    let _ = stream.write_all(answer);
    // Until the client hangs up.
    let _ = stream.read(&mut piece);
}

/// A report to a server that answers so.
fn report(machine: &Machine, text: String, connect: &str, budget: &str) -> Run {
    let url = format!("http://127.0.0.1:{}/", listen(move |tcp| answer(tcp, text.as_bytes())));
    machine.run(["send", "-f", FAMILY, "-v", "1", "-u", &url, "-c", connect, "-t", budget, "--verbose"])
}

/// src/courier.rs has what a status line is.
#[test]
fn the_status_is_the_answer_whatever_else_cannot_be_read() {
    // With the length, that is one field more than ureq reads.
    let fields = "Set-Cookie: a=b\r\n".repeat(128);
    let (ended, waits) = ((0, 1), (1, 0));
    for (what, head, expected, said) in [
        ("one field too many", format!("1.1 200 OK\r\n{fields}"), ended, "sent one"),
        ("no field", "1.0 201 Created\r\nno field: here\r\n".to_owned(), ended, "sent one"),
        ("two lengths", "1.1 200 OK\r\nContent-Length: 3\r\n".to_owned(), ended, "sent one"),
        ("hints first", format!("1.1 103 Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n{fields}"), ended, "sent one"),
        ("hints, and no more", format!("1.1 103 Hints\r\n{fields}"), waits, "(receive: protocol: "),
        ("refused", format!("1.1 400 Bad Request\r\n{fields}"), ended, "127.0.0.1 answered 400"),
        ("busy", format!("1.1 503 Busy\r\n{fields}"), waits, "127.0.0.1 answered 503"),
        ("moved", format!("1.1 302 Found\r\nLocation: /\r\n{fields}"), waits, "127.0.0.1 answered 302"),
    ] {
        let (machine, text) = (Machine::new(), format!("HTTP/{head}Content-Length: 2\r\n\r\n{{}}"));
        let run = report(&machine, text, "10", "20").run().expect(0);
        let found = (machine.pending().len(), machine.receipts().len(), run.stderr.contains(said));
        assert_eq!(found, (expected.0, expected.1, true), "{what}: {run:?}");
    }
}

#[test]
fn a_body_that_stalls_costs_less_than_a_short_budget() {
    // The body may take half of it. On a busy machine, the rest of the run may take the rest.
    let is_delivered = || {
        let machine = Machine::new();
        report(&machine, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{".to_owned(), "2", "0.5").run().expect(0);
        machine.receipts().len() == 1
    };
    assert!((0..5).any(|_| is_delivered()));
}
