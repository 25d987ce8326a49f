//! An HTTP proxy that makes tunnels (CONNECT, RFC 9110 §9.3.6), or refuses to.

use std::io::{BufRead, BufReader, Write, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Targets that wait for a test.
const TARGETS_CAP: usize = 1_000;

/// What the proxy does with whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Connects,
    Refuses,
}

/// A proxy on loopback, which ends with the test's process.
pub(crate) struct Proxy {
    pub(crate) url: String,
    targets: Receiver<String>,
}

impl Proxy {
    pub(crate) fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (told, targets) = sync_channel(TARGETS_CAP);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let told = told.clone();
                thread::spawn(move || serve(stream, mood, &told));
            }
        });
        Self {
            url: format!("http://{address}"),
            targets,
        }
    }

    /// The tunnels that were asked for up to now.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.targets.try_iter().collect()
    }
}

/// Serves one connection to its end; tells where it is to lead before it is answered, so that
/// whoever saw an answer finds it told. `None` where it ended early.
fn serve(mut stream: TcpStream, mood: Mood, told: &SyncSender<String>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let target = first.split(' ').nth(1)?.to_owned();
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    told.send(target.clone()).ok()?;
    if mood == Mood::Refuses {
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
        return Some(());
    }
    let mut far = TcpStream::connect(&target).ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (mut back, mut from_far) = (stream, far.try_clone().ok()?);
    let inwards = thread::spawn(move || {
        let _ = copy(&mut from_far, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let _ = copy(&mut reader, &mut far);
    let _ = far.shutdown(Shutdown::Both);
    let _ = inwards.join();
    Some(())
}
