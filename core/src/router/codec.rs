//! Requests and responses on a stream: a big-endian u32 length and that many bytes.
//!
//! Nothing is allocated on a peer's word: lengths are checked first, memory grows only with bytes
//! that came, and a router holds a bounded number of unanswered bytes in all.

use std::{fmt, io, sync::Arc};

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::{StreamProtocol, request_response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::metrics::Metrics;

/// Longest request, in bytes.
pub const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// Longest response, in bytes.
pub const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;

/// Requests of all peers held at once, in bytes; beyond it a request is refused.
const REQUEST_BUDGET_BYTES: usize = 64 * 1024 * 1024;
/// Responses being read at once, in bytes; beyond it a response is dropped.
const RESPONSE_BUDGET_BYTES: usize = 64 * 1024 * 1024;
/// What is allocated before the first byte came; then at most as much again as came.
const CHUNK_BYTES: usize = 16 * 1024;
/// Up to this size, length and bytes go out in one write.
const JOINED_WRITE_BYTES: usize = 64 * 1024;

/// Memory set aside for bytes of a peer; given back on drop.
pub(super) type Memory = Option<OwnedSemaphorePermit>;

/// A request, or why a peer's was not read. libp2p keeps failed reads to itself, so what the loop
/// must know comes as a value.
pub(super) enum Request {
    Whole(Vec<u8>, Memory),
    Oversized,
    Busy,
}

/// A response: read from a peer, or to be written when it is ready.
pub(super) enum Response {
    Read(Vec<u8>),
    Later(oneshot::Receiver<Vec<u8>>),
}

/// Never the bytes: libp2p may print what passes through it.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request")
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Response")
    }
}

/// The codec of `/spacepanda/peer/1`.
#[derive(Clone)]
pub(super) struct Codec {
    metrics: Metrics,
    requests: Arc<Semaphore>,
    responses: Arc<Semaphore>,
}

impl Codec {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            metrics: metrics.clone(),
            requests: Arc::new(Semaphore::new(REQUEST_BUDGET_BYTES)),
            responses: Arc::new(Semaphore::new(RESPONSE_BUDGET_BYTES)),
        }
    }
}

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Response;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        match read(io, MAX_REQUEST_BYTES, &self.requests).await {
            Ok((bytes, memory)) => {
                self.metrics.peer_bytes_read.inc_by(bytes.len() as u64);
                Ok(Request::Whole(bytes, memory))
            }
            Err(error) if is_violation(&error) => Ok(Request::Oversized),
            Err(error) if is_busy(&error) => Ok(Request::Busy),
            Err(error) => Err(error),
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Response>
    where
        T: AsyncRead + Unpin + Send,
    {
        let (bytes, _memory) = read(io, MAX_RESPONSE_BYTES, &self.responses).await?;
        self.metrics.peer_bytes_read.inc_by(bytes.len() as u64);
        Ok(Response::Read(bytes))
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Request) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        match request {
            Request::Whole(bytes, _) => write(io, &bytes, MAX_REQUEST_BYTES).await,
            Request::Oversized | Request::Busy => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Response,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let bytes = match response {
            Response::Read(bytes) => bytes,
            // Dropped unanswered: the error closes the stream, which tells the peer.
            Response::Later(bytes) => bytes.await.map_err(|_| io::ErrorKind::BrokenPipe)?,
        };
        write(io, &bytes, MAX_RESPONSE_BYTES).await
    }
}

/// Whether bytes are one request with its length before it, for those who feed it with nonsense.
#[cfg(feature = "testing")]
pub fn reads_request(bytes: &[u8]) -> bool {
    let budget = Arc::new(Semaphore::new(REQUEST_BUDGET_BYTES));
    let mut io = futures::io::Cursor::new(bytes);
    futures::executor::block_on(read(&mut io, MAX_REQUEST_BYTES, &budget)).is_ok()
}

/// What a failed read means: the peer broke the rules, as opposed to a broken or busy line.
pub(super) fn is_violation(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// The budget was spent.
pub(super) fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::QuotaExceeded
}

async fn read<T>(io: &mut T, limit: usize, budget: &Arc<Semaphore>) -> io::Result<(Vec<u8>, Memory)>
where
    T: AsyncRead + Unpin + Send,
{
    let mut prefix = [0; 4];
    io.read_exact(&mut prefix).await?;
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    let mut memory: Memory = None;
    while bytes.len() < length {
        let came = bytes.len();
        let more = came.max(CHUNK_BYTES).min(length - came);
        set_aside(&mut memory, more, budget)?;
        bytes.reserve_exact(more);
        bytes.resize(came + more, 0);
        io.read_exact(bytes.get_mut(came..).unwrap_or_default()).await?;
    }
    Ok((bytes, memory))
}

fn set_aside(memory: &mut Memory, bytes: usize, budget: &Arc<Semaphore>) -> io::Result<()> {
    let busy = io::ErrorKind::QuotaExceeded;
    let bytes = u32::try_from(bytes).map_err(|_| busy)?;
    let more = Arc::clone(budget).try_acquire_many_owned(bytes).map_err(|_| busy)?;
    match memory {
        Some(permit) => permit.merge(more),
        None => *memory = Some(more),
    }
    Ok(())
}

async fn write<T>(io: &mut T, bytes: &[u8], limit: usize) -> io::Result<()>
where
    T: AsyncWrite + Unpin + Send,
{
    let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    if bytes.len() > limit {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if bytes.len() > JOINED_WRITE_BYTES {
        io.write_all(&length.to_be_bytes()).await?;
        return io.write_all(bytes).await;
    }
    let mut joined = Vec::with_capacity(4 + bytes.len());
    joined.extend_from_slice(&length.to_be_bytes());
    joined.extend_from_slice(bytes);
    io.write_all(&joined).await
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};

    use super::*;

    fn budget(bytes: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(bytes))
    }

    fn read_all(wire: Vec<u8>, budget: &Arc<Semaphore>) -> io::Result<(Vec<u8>, Memory)> {
        block_on(read(&mut Cursor::new(wire), MAX_REQUEST_BYTES, budget))
    }

    #[test]
    fn round_trips_every_size_class() {
        let budget = budget(REQUEST_BUDGET_BYTES);
        for size in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, JOINED_WRITE_BYTES + 1, MAX_REQUEST_BYTES] {
            let bytes: Vec<u8> = (0..size).map(|i| i as u8).collect();
            let mut wire = Cursor::new(Vec::new());
            block_on(write(&mut wire, &bytes, MAX_REQUEST_BYTES)).unwrap();
            let (read, memory) = read_all(wire.into_inner(), &budget).unwrap();
            assert_eq!(read, bytes);
            assert!(read.capacity() <= size.max(1));
            assert_eq!(budget.available_permits(), REQUEST_BUDGET_BYTES - size);
            drop(memory);
        }
        assert_eq!(budget.available_permits(), REQUEST_BUDGET_BYTES);
    }

    #[test]
    fn an_oversized_length_is_refused_before_anything_is_taken() {
        let nothing = budget(0);
        let length = (MAX_REQUEST_BYTES as u32 + 1).to_be_bytes().to_vec();
        let error = read_all(length, &nothing).unwrap_err();
        assert!(is_violation(&error));
    }

    #[test]
    fn a_length_without_bytes_costs_one_chunk() {
        let one_chunk = budget(CHUNK_BYTES);
        let length = (MAX_REQUEST_BYTES as u32).to_be_bytes().to_vec();
        let error = read_all(length, &one_chunk).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(one_chunk.available_permits(), CHUNK_BYTES);
    }

    #[test]
    fn beyond_the_budget_is_busy_not_a_violation() {
        let mut wire = 100_000u32.to_be_bytes().to_vec();
        wire.resize(100_004, 1);
        let error = read_all(wire, &budget(50_000)).unwrap_err();
        assert!(is_busy(&error) && !is_violation(&error));
    }

    #[test]
    fn too_long_is_never_written() {
        let mut wire = Cursor::new(Vec::new());
        assert!(block_on(write(&mut wire, &[0; 11], 10)).is_err());
        assert!(wire.into_inner().is_empty());
    }
}
