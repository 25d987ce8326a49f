//! One connection: bytes in, bytes out, and both bounded.
//!
//! Two loops of one task share the session. The input loop reads lines and
//! hands commands to the node; it pauses while the client does not read its
//! answers. The output loop takes events and writes lines, as many at once as
//! are there; when its buffer is full it takes no more events, and a client
//! that still does not read is told `slow_consumer` and let go.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use waymesh_net::local;
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ipc::{Decoder, Event, Hello, Request, RequestId};

use super::patience::Patience;
use super::server::{Commands, Events};
use super::session::Session;

/// What one connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Unread bytes past which no more requests are taken.
    pub pause_bytes: usize,
    /// Unread bytes past which no more events are taken. One event more fits.
    pub out_max_bytes: usize,
    /// How long a client whose buffer was full may take to read a sixteenth of
    /// it, again and again until it has read half; else it is let go.
    pub patience: Duration,
    /// How long a closing connection waits for the client to read the rest.
    pub linger: Duration,
}

impl Default for Limits {
    /// Chosen: some thousands of small answers before requests wait, four of
    /// the largest messages before events wait.
    fn default() -> Self {
        Self {
            pause_bytes: 256 * 1024,
            out_max_bytes: 4 * 1024 * 1024,
            patience: Duration::from_secs(10),
            linger: Duration::from_secs(1),
        }
    }
}

/// Capacity that an empty out-buffer keeps, bytes. Chosen.
const OUT_KEEP_BYTES: usize = 64 * 1024;

/// Events that are put into one write at most, when so many wait. Chosen.
const BATCH_MAX: usize = 256;

/// Why a connection ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The client closed it, or its socket failed.
    ByClient,
    /// The node closes it, with a last line that says why, to a request if it was one.
    WithFault(Option<RequestId>, Fault),
}

/// What the two loops of a connection share. Locked for moments, never across an await.
struct Shared {
    state: Mutex<State>,
    /// Told when the out-buffer got a line that no event caused.
    written: Notify,
    /// Told when there is room for answers, or a command to send.
    resumed: Notify,
}

struct State {
    session: Session,
    out: Out,
    /// The client will send no more; what is open is still answered.
    half_closed: bool,
    /// The input loop waits until the client has read more.
    input_pauses: bool,
}

impl State {
    /// Whether the client must read before it may ask for more.
    const fn pauses(&mut self, pause_bytes: usize) -> bool {
        self.input_pauses = self.out.len() > pause_bytes;
        self.input_pauses
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one connection to its end.
pub(super) async fn run(
    stream: UnixStream,
    commands: impl Commands,
    events: impl Events,
    hello: watch::Receiver<Hello>,
    limits: Limits,
) {
    let mut out = Out::default();
    out.push(&Event::Hello(hello.borrow().clone()));
    let shared = Shared {
        state: Mutex::new(State {
            session: Session::new(hello),
            out,
            half_closed: false,
            input_pauses: false,
        }),
        written: Notify::new(),
        resumed: Notify::new(),
    };
    shared.written.notify_one();
    let end = tokio::select! {
        end = input(&stream, &commands, &shared, limits) => end,
        end = output(&stream, &commands, events, &shared, limits) => end,
    };
    drop(commands);
    if let End::WithFault(id, fault) = end {
        let mut out = std::mem::take(&mut shared.lock().out);
        tracing::debug!(code = %fault.code, "closing an IPC connection");
        out.push(&Event::Error { id, fault });
        finish(stream, out, limits.linger).await;
    }
}

/// Tells a client why it is not served.
pub(super) async fn refuse(stream: UnixStream, fault: Fault, limits: Limits) {
    let mut out = Out::default();
    out.push(&Event::Error { id: None, fault });
    finish(stream, out, limits.linger).await;
}

async fn input(
    stream: &UnixStream,
    commands: &impl Commands,
    shared: &Shared,
    limits: Limits,
) -> End {
    let mut decoder = Decoder::<Request>::default();
    loop {
        if let Err(end) = catch_up(commands, shared, limits).await {
            return end;
        }
        tokio::select! {
            biased;
            () = shared.resumed.notified() => continue,
            ready = stream.readable() => if ready.is_err() {
                return End::ByClient;
            },
        }
        match stream.try_read_buf(decoder.room()) {
            Ok(0) => return half_close(stream, commands, shared, limits).await,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return End::ByClient,
        }
        if let Err(end) = requests(&mut decoder, commands, shared, limits).await {
            return end;
        }
    }
}

/// Handles every whole request that was read.
async fn requests(
    decoder: &mut Decoder<Request>,
    commands: &impl Commands,
    shared: &Shared,
    limits: Limits,
) -> Result<(), End> {
    loop {
        let request = match decoder.poll() {
            Ok(None) => return Ok(()),
            Ok(Some(request)) => request,
            Err(rejected) if rejected.fatal => {
                return Err(End::WithFault(rejected.id, rejected.fault));
            }
            Err(rejected) => {
                let (id, fault) = (rejected.id, rejected.fault);
                shared.lock().out.push(&Event::Error { id, fault });
                shared.written.notify_one();
                catch_up(commands, shared, limits).await?;
                continue;
            }
        };
        let reaction = shared.lock().session.request(request, || commands.new_id());
        if let Some(answer) = reaction.answer {
            shared.lock().out.push(&answer);
            shared.written.notify_one();
        }
        if let Some(command) = reaction.command
            && !commands.send(command).await
        {
            return Err(node_gone());
        }
        catch_up(commands, shared, limits).await?;
    }
}

/// Sends the commands that events asked for, and waits while the client reads too slowly.
async fn catch_up(commands: &impl Commands, shared: &Shared, limits: Limits) -> Result<(), End> {
    loop {
        let next = shared.lock().session.next_command();
        if let Some(command) = next {
            if !commands.send(command).await {
                return Err(node_gone());
            }
        } else if shared.lock().pauses(limits.pause_bytes) {
            shared.resumed.notified().await;
        } else {
            return Ok(());
        }
    }
}

/// The client sends no more. When it still reads, what is open is answered first.
async fn half_close(
    stream: &UnixStream,
    commands: &impl Commands,
    shared: &Shared,
    limits: Limits,
) -> End {
    if local::is_hung_up(stream) {
        return End::ByClient;
    }
    shared.lock().half_closed = true;
    shared.written.notify_one();
    loop {
        if let Err(end) = catch_up(commands, shared, limits).await {
            return end;
        }
        shared.resumed.notified().await;
    }
}

async fn output(
    stream: &UnixStream,
    commands: &impl Commands,
    mut events: impl Events,
    shared: &Shared,
    limits: Limits,
) -> End {
    let mut patience = Patience::new(limits.out_max_bytes, limits.patience);
    loop {
        let (waiting, written) = {
            let out = &shared.lock().out;
            (out.len(), out.written)
        };
        let is_full = waiting >= limits.out_max_bytes;
        if patience.is_over(Instant::now(), waiting, written) {
            return slow_consumer();
        }
        tokio::select! {
            biased;
            () = shared.written.notified() => {}
            event = events.recv(), if !is_full => match event {
                Some(event) => take(event, &mut events, commands, shared, limits).await,
                None => return ended_by_node(waiting > limits.pause_bytes),
            },
            ready = stream.writable(), if waiting > 0 => if ready.is_err() {
                return End::ByClient;
            },
            () = patience.wait() => continue,
        }
        let mut state = shared.lock();
        if state.out.flush(stream).is_err() {
            return End::ByClient;
        }
        if state.half_closed && state.out.len() == 0 && state.session.is_idle() {
            return End::ByClient;
        }
        if state.input_pauses && !state.pauses(limits.pause_bytes) {
            shared.resumed.notify_one();
        }
    }
}

/// Puts an event and those right behind it into the out-buffer.
async fn take(
    first: waymesh_core::app::Event,
    events: &mut impl Events,
    commands: &impl Commands,
    shared: &Shared,
    limits: Limits,
) {
    let mut next = first;
    for _ in 0..BATCH_MAX {
        if put(next, commands, shared) >= limits.out_max_bytes {
            return;
        }
        next = tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(event) => event,
                None => return,
            },
            () = std::future::ready(()) => return,
        };
    }
    put(next, commands, shared);
}

/// Puts an event into the out-buffer; says how much waits there.
fn put(event: waymesh_core::app::Event, commands: &impl Commands, shared: &Shared) -> usize {
    let mut state = shared.lock();
    if let Some(line) = state.session.event(event, || commands.new_id()) {
        state.out.push(&line);
    }
    if state.session.has_command() {
        shared.resumed.notify_one();
    }
    state.out.len()
}

fn node_gone() -> End {
    let fault = Fault::new(Code::ShuttingDown, "the node stops")
        .with_hint("start it again, then reconnect");
    End::WithFault(None, fault)
}

fn slow_consumer() -> End {
    let fault = Fault::new(
        Code::SlowConsumer,
        "the program did not read what the node told it",
    )
    .with_hint("read the socket all the time; hand work to another task");
    End::WithFault(None, fault)
}

/// The node tells nothing more: it stops, or it gave up a client that is behind.
fn ended_by_node(is_behind: bool) -> End {
    if is_behind {
        slow_consumer()
    } else {
        node_gone()
    }
}

/// Writes what is left, then reads until the client closes, so that it can read the last line.
async fn finish(mut stream: UnixStream, out: Out, linger: Duration) {
    let farewell = async {
        stream.write_all(out.unread()).await?;
        stream.shutdown().await?;
        let mut rest = [0; 4_096];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(linger, farewell).await;
}

/// Lines that the client has not taken yet.
#[derive(Debug, Default)]
struct Out {
    buffer: Vec<u8>,
    /// Bytes before this one are written.
    start: usize,
    /// Bytes that were written in all.
    written: u64,
}

impl Out {
    fn push(&mut self, event: &Event) {
        event.encode(&mut self.buffer);
    }

    const fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Writes as much as the socket takes now.
    fn flush(&mut self, stream: &UnixStream) -> io::Result<()> {
        while self.start < self.buffer.len() {
            match stream.try_write(&self.buffer[self.start..]) {
                Ok(written) => {
                    self.start += written;
                    self.written += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(OUT_KEEP_BYTES);
            self.start = 0;
        } else if self.start > self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        Ok(())
    }
}
