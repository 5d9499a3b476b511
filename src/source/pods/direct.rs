//! One request on a connection of its own, whose answer is handed over in large pieces.
//!
//! A kubelet flushes every line, and the API server passes each on as a chunk of its own. A general client hands over a
//! chunk at a time, from a task of its own: several times what the line itself costs. Here all that has arrived is
//! taken off the connection at once, by whoever reads.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::io::poll_read_buf;

use super::chunked::{ChunkError, Chunked};

/// Bytes of an answer's head at most.
const MOST_HEAD: usize = 64 * 1024;

/// Headers of an answer at most.
const MOST_HEADERS: usize = 100;

/// How much is read at a time, and how much is handed over at a time, in bytes.
const READ: usize = 16 * 1024;
pub(super) const PIECE: usize = 64 * 1024;

/// A read of fewer bytes than this, a few lines, found the connection all but empty. Where a piece of this much is
/// together by then, it is handed over: reading on would fetch what trickles in line by line, with a system call and a
/// TLS record for each, for as long as the writer goes on.
const TRICKLE: usize = 1024;
const WORTH_HANDING_OVER: usize = 8 * 1024;

/// Marks an answer whose body hands over all that has arrived, up to a [`PIECE`], instead of each chunk by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct InPieces;

/// Why a request could not be sent, or its answer not be understood.
#[derive(Debug, thiserror::Error)]
pub(in crate::source) enum DirectError {
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The answer is not HTTP/1.1 as it should be.
    #[error("the answer cannot be understood: {0}")]
    Answer(&'static str),
    /// Its chunks are not.
    #[error(transparent)]
    Chunks(#[from] ChunkError),
}

/// Sends a request without a body, and waits for the head of the answer.
///
/// # Errors
/// [`DirectError`] where the connection breaks or the answer is not HTTP/1.1.
pub(in crate::source) async fn send<T>(mut io: T, request: &Request<()>) -> Result<Response<DirectBody<T>>, DirectError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin,
{
    io.write_all(&head_of(request)).await?;
    io.flush().await?;
    let mut read = BytesMut::with_capacity(READ);
    loop {
        if let Some((status, headers)) = parse_head(&mut read)? {
            // An interim answer comes before the real one (RFC 9110, section 15.2).
            if status.is_informational() {
                continue;
            }
            let body = DirectBody { io, read, framing: framing_of(status, &headers)?, end: None };
            let mut response = Response::new(body);
            (*response.status_mut(), *response.headers_mut()) = (status, headers);
            response.extensions_mut().insert(InPieces);
            return Ok(response);
        }
        if read.len() > MOST_HEAD {
            return Err(DirectError::Answer("its head is beyond all bounds"));
        }
        if io.read_buf(&mut read).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

fn head_of(request: &Request<()>) -> BytesMut {
    let mut head = BytesMut::with_capacity(1024);
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    head.put_slice(request.method().as_str().as_bytes());
    head.put_slice(b" ");
    head.put_slice(path.as_bytes());
    head.put_slice(b" HTTP/1.1\r\n");
    let host = host_of(request.uri());
    let host = host.filter(|_| !request.headers().contains_key(HOST)).map(|host| (&HOST, host));
    let all = host.iter().map(|(name, value)| (*name, value)).chain(request.headers());
    for (name, value) in all {
        head.put_slice(name.as_str().as_bytes());
        head.put_slice(b": ");
        head.put_slice(value.as_bytes());
        head.put_slice(b"\r\n");
    }
    head.put_slice(b"\r\n");
    head
}

fn host_of(uri: &Uri) -> Option<HeaderValue> {
    let authority = uri.authority()?;
    // User and password are no part of it (RFC 9110, section 7.2).
    let host = authority.as_str().rsplit('@').next()?;
    HeaderValue::from_str(host).ok()
}

/// The head, taken off `read`, once all of it is there.
fn parse_head(read: &mut BytesMut) -> Result<Option<(StatusCode, HeaderMap)>, DirectError> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let end = match head.parse(read) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(DirectError::Answer("its head is not HTTP/1.1")),
    };
    let status = head.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(DirectError::Answer("its status is no number"))?;
    let mut map = HeaderMap::with_capacity(head.headers.len());
    for header in head.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        let (Ok(name), Ok(value)) = (name, value) else { return Err(DirectError::Answer("a header is malformed")) };
        map.append(name, value);
    }
    drop(read.split_to(end));
    Ok(Some((status, map)))
}

/// How long the body is (RFC 9112, section 6.3).
fn framing_of(status: StatusCode, headers: &HeaderMap) -> Result<Framing, DirectError> {
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(Framing::Length(0));
    }
    if let Some(coding) = headers.get(TRANSFER_ENCODING) {
        return match coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            true => Ok(Framing::Chunked(Chunked::default())),
            false => Err(DirectError::Answer("its transfer coding is not chunked")),
        };
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(Framing::ToTheEnd),
        (Some(length), None) => {
            let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits.and_then(|text| text.parse().ok());
            length.map(Framing::Length).ok_or(DirectError::Answer("its length is no number"))
        }
        (Some(_), Some(_)) => Err(DirectError::Answer("it has two lengths")),
    }
}

#[derive(Debug)]
enum Framing {
    Chunked(Chunked),
    /// So many bytes are to come.
    Length(u64),
    /// As many as come before the server closes.
    ToTheEnd,
}

impl Framing {
    fn decode(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<(), ChunkError> {
        match self {
            Self::Chunked(chunked) => return chunked.decode(input, out),
            Self::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= here as u64;
                out.unsplit(input.split_to(here));
            }
            Self::ToTheEnd => out.unsplit(input.split()),
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Chunked(chunked) => chunked.is_done(),
            Self::Length(left) => *left == 0,
            Self::ToTheEnd => false,
        }
    }
}

/// The body of an answer, and the connection that it comes on: dropping it closes the connection.
#[derive(Debug)]
pub(in crate::source) struct DirectBody<T> {
    io: T,
    read: BytesMut,
    framing: Framing,
    /// How it ended, to be told behind what came before.
    end: Option<Result<(), DirectError>>,
}

impl<T: AsyncRead + Unpin> DirectBody<T> {
    /// Takes off the connection all that is there, up to a piece; whether there may be more to come.
    fn fill(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Result<bool, DirectError> {
        let mut trickles = false;
        loop {
            self.framing.decode(&mut self.read, out)?;
            if self.framing.is_done() {
                return Ok(false);
            }
            if out.len() >= PIECE || (trickles && out.len() >= WORTH_HANDING_OVER) {
                return Ok(true);
            }
            self.read.reserve(READ);
            match poll_read_buf(Pin::new(&mut self.io), cx, &mut self.read) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Ok(0)) if matches!(self.framing, Framing::ToTheEnd) => return Ok(false),
                Poll::Ready(Ok(0)) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Poll::Ready(Ok(bytes)) => trickles = bytes < TRICKLE,
                Poll::Ready(Err(error)) => return Err(error.into()),
            }
        }
    }
}

impl<T: AsyncRead + Unpin> http_body::Body for DirectBody<T> {
    type Data = Bytes;
    type Error = DirectError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, DirectError>>> {
        let body = self.get_mut();
        let mut out = BytesMut::new();
        if body.end.is_none() {
            body.end = match body.fill(cx, &mut out) {
                Ok(true) if out.is_empty() => return Poll::Pending,
                Ok(true) => None,
                Ok(false) => Some(Ok(())),
                Err(error) => Some(Err(error)),
            };
        }
        if !out.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(out.freeze()))));
        }
        match body.end.replace(Ok(())) {
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            _ => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use rstest::rstest;
    use tokio_util::task::TaskTracker;

    /// Sends a request to a server that answers with these bytes, a few at a time, and closes: what was asked, and the
    /// answer with its body.
    async fn asked(answer: &'static [u8], at_a_time: usize) -> (String, Result<(u16, Vec<u8>), String>) {
        let (client, mut server) = tokio::io::duplex(256);
        let tasks = TaskTracker::new();
        let server = tasks.spawn(async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                server.read_buf(&mut request).await.unwrap();
            }
            for piece in answer.chunks(at_a_time) {
                // The client may have gone: it has what it wants.
                let _ = server.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            String::from_utf8(request).unwrap()
        });
        let request = Request::get("https://user:word@host:6443/a?b=c").header("Authorization", "Bearer x").body(());
        let whole = async {
            let response = send(client, &request.unwrap()).await.map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
            Ok((status, body.to_bytes().to_vec()))
        };
        let answer = whole.await;
        (server.await.unwrap(), answer)
    }

    #[rstest]
    #[case::chunked(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        200,
        b"abcde"
    )]
    #[case::with_a_length(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone and more", 404, b"gone")]
    #[case::up_to_the_end(b"HTTP/1.0 200 OK\r\n\r\nall of it", 200, b"all of it")]
    #[case::without_a_body(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"")]
    #[case::behind_an_interim_answer(
        b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        200,
        b"x"
    )]
    #[tokio::test]
    async fn answers_are_read_however_they_arrive(
        #[case] bytes: &'static [u8],
        #[case] status: u16,
        #[case] body: &[u8],
        #[values(1, 7, 1000)] at_a_time: usize,
    ) {
        let (request, answer) = asked(bytes, at_a_time).await;
        assert_eq!(request, "GET /a?b=c HTTP/1.1\r\nhost: host:6443\r\nauthorization: Bearer x\r\n\r\n");
        assert_eq!(answer, Ok((status, body.to_vec())));
    }

    #[rstest]
    #[case::nothing(b"", "broke")]
    #[case::no_http(b"SSH-2.0-x\r\n\r\n", "not HTTP")]
    #[case::half_a_head(b"HTTP/1.1 200 OK\r\nA: ", "broke")]
    #[case::half_a_chunk(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", "broke")]
    #[case::no_last_chunk(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "broke")]
    #[case::a_bad_chunk(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "hexadecimal")]
    #[case::too_short(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "broke")]
    #[case::another_coding(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "coding")]
    #[case::a_negative_length(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "no number")]
    #[case::a_signed_length(b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx", "no number")]
    #[case::two_lengths(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "two lengths")]
    #[tokio::test]
    async fn an_answer_that_breaks_off_or_makes_no_sense_is_an_error(#[case] bytes: &'static [u8], #[case] why: &str) {
        let (_, answer) = asked(bytes, 5).await;
        let error = answer.unwrap_err();
        assert!(error.contains(why), "{error}");
    }

    #[tokio::test]
    async fn a_head_without_end_is_refused() {
        static ENDLESS: [u8; MOST_HEAD + 2 * READ] = {
            let mut bytes = [b'x'; MOST_HEAD + 2 * READ];
            let start = *b"HTTP/1.1 200 OK\r\nA: ";
            let mut at = 0;
            while at < start.len() {
                bytes[at] = start[at];
                at += 1;
            }
            bytes
        };
        let (_, answer) = asked(&ENDLESS, 1024).await;
        assert!(answer.unwrap_err().contains("bounds"));
    }

    /// A connection that gives each of its pieces at once, one a read, and then stays silent.
    struct Pieces(std::collections::VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.0.pop_front() {
                Some(piece) => into.put_slice(&piece),
                None => return Poll::Pending,
            }
            Poll::Ready(Ok(()))
        }
    }

    #[rstest]
    #[case::a_burst_and_lines_behind_it(&[4096, 4096, 100, 100, 100], &[8292, 200])]
    #[case::lines_alone(&[100, 100, 100], &[300])]
    #[case::more_than_a_piece(&[16_384; 5], &[65_536, 16_384])]
    #[tokio::test]
    async fn what_trickles_in_behind_a_burst_is_left_for_the_next_piece(
        #[case] reads: &[usize],
        #[case] pieces: &[usize],
    ) {
        let io = Pieces(reads.iter().map(|length| vec![b'x'; *length]).collect());
        let mut body = DirectBody { io, read: BytesMut::new(), framing: Framing::ToTheEnd, end: None };
        let mut got = Vec::new();
        while let Some(frame) = futures::FutureExt::now_or_never(body.frame()) {
            got.push(frame.unwrap().unwrap().into_data().unwrap().len());
        }
        assert_eq!(got, pieces);
    }

    #[tokio::test]
    async fn what_came_before_a_break_is_delivered_before_the_error() {
        let (client, mut server) = tokio::io::duplex(4096);
        server.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n9\r\nde").await.unwrap();
        server.shutdown().await.unwrap();
        let mut body = send(client, &Request::get("/").body(()).unwrap()).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abcde");
        assert!(body.frame().await.unwrap().is_err());
        assert!(body.frame().await.is_none());
    }
}
