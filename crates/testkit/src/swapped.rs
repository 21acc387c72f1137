//! A disk whose beginning is another one once it has been read: who reads it twice, to check it and to use it, uses what nobody
//! checked.
//!
//! It is served by the NBD protocol (fixed newstyle negotiation, simple replies) to one virtual machine, read-only.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

/// `NBDMAGIC`, `IHAVEOPT`, and the magic numbers of replies to options, of requests and of their replies.
const SERVER: &[u8; 8] = b"NBDMAGIC";
const OPTION: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
/// NBD_FLAG_FIXED_NEWSTYLE and NBD_FLAG_NO_ZEROES.
const HANDSHAKE: u16 = 3;
/// NBD_FLAG_HAS_FLAGS and NBD_FLAG_READ_ONLY.
const EXPORT: u16 = 3;
/// NBD_OPT_ABORT, NBD_OPT_GO; NBD_REP_ACK, NBD_REP_INFO, NBD_REP_ERR_UNSUP.
const ABORT: u32 = 2;
const GO: u32 = 7;
const ACK: u32 = 1;
const INFO: u32 = 3;
const UNSUPPORTED: u32 = (1 << 31) + 1;
/// NBD_CMD_READ, NBD_CMD_DISC; the error of everything else, EPERM.
const READ: u16 = 0;
const DISCONNECT: u16 = 2;
const NOT_PERMITTED: u32 = 1;
/// The most bytes of an option, and of one read.
const MAX_OPTION: u32 = 64 << 10;
const MAX_READ: u32 = 32 << 20;

/// Two disks in the place of one.
pub struct Swapped {
    /// What is read at first.
    first: File,
    /// What its beginning is later.
    later: File,
    /// Bytes of the beginning.
    beginning: u64,
    size: u64,
    read_through: bool,
    /// A file that is made once the beginning is another one.
    told: Option<PathBuf>,
}

impl Swapped {
    /// A disk that is `first`, but for its first bytes, which are those of `later` once all of them have been read. Then
    /// the file `told` is made.
    ///
    /// # Errors
    /// When the files have no sizes, or not the same one.
    pub fn new(first: File, later: File, beginning: u64, told: Option<PathBuf>) -> Result<Self> {
        let size = first.metadata()?.len();
        ensure!(size == later.metadata()?.len() && beginning <= size, "disks of different sizes");
        Ok(Self { first, later, beginning, size, read_through: false, told })
    }

    /// Serves one peer until it leaves.
    ///
    /// # Errors
    /// When it breaks the protocol, or the connection breaks.
    pub fn serve(&mut self, mut stream: impl Read + Write) -> Result<()> {
        self.negotiate(&mut stream)?;
        loop {
            let magic = match array(&mut stream) {
                Ok(magic) => u32::from_be_bytes(magic),
                // A virtual machine that is killed says nothing.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let _flags: [u8; 2] = array(&mut stream)?;
            let kind = u16::from_be_bytes(array(&mut stream)?);
            let cookie: [u8; 8] = array(&mut stream)?;
            let offset = u64::from_be_bytes(array(&mut stream)?);
            let length = u32::from_be_bytes(array(&mut stream)?);
            ensure!(magic == REQUEST && length <= MAX_READ, "no request of NBD");
            match kind {
                READ => {
                    let bytes = self.read(offset, length as usize)?;
                    let head = [&REPLY.to_be_bytes()[..], &0_u32.to_be_bytes(), &cookie].concat();
                    stream.write_all(&[head, bytes].concat())?;
                }
                DISCONNECT => return Ok(()),
                _ => {
                    let answer = [&REPLY.to_be_bytes()[..], &NOT_PERMITTED.to_be_bytes(), &cookie].concat();
                    stream.write_all(&answer)?;
                }
            }
        }
    }

    fn negotiate(&self, stream: &mut (impl Read + Write)) -> Result<()> {
        stream.write_all(&[&SERVER[..], OPTION, &HANDSHAKE.to_be_bytes()].concat())?;
        let _flags: [u8; 4] = array(stream)?;
        loop {
            let magic: [u8; 8] = array(stream)?;
            let option = u32::from_be_bytes(array(stream)?);
            let length = u32::from_be_bytes(array(stream)?);
            ensure!(&magic == OPTION && length <= MAX_OPTION, "no option of NBD");
            stream.read_exact(&mut vec![0; length as usize])?;
            let mut reply = |kind: u32, data: &[u8]| {
                let head =
                    [&OPTION_REPLY.to_be_bytes()[..], &option.to_be_bytes(), &kind.to_be_bytes()].concat();
                stream.write_all(&[&head[..], &(data.len() as u32).to_be_bytes(), data].concat())
            };
            match option {
                GO => {
                    // NBD_INFO_EXPORT.
                    let export =
                        [&0_u16.to_be_bytes()[..], &self.size.to_be_bytes(), &EXPORT.to_be_bytes()].concat();
                    reply(INFO, &export)?;
                    reply(ACK, &[])?;
                    return Ok(());
                }
                ABORT => bail!("the peer has left"),
                _ => reply(UNSUPPORTED, &[])?,
            }
        }
    }

    fn read(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.first.read_exact_at(&mut bytes, offset)?;
        let end = offset.saturating_add(length as u64);
        if self.read_through && offset < self.beginning {
            let within = (end.min(self.beginning) - offset) as usize;
            self.later.read_exact_at(&mut bytes[..within], offset)?;
        }
        self.read_through |= offset < self.beginning && end >= self.beginning;
        if let Some(told) = self.told.take_if(|_| self.read_through) {
            File::create(told)?;
        }
        Ok(bytes)
    }
}

fn array<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn disk(fill: u8) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[fill; 8192], 0).unwrap();
        file
    }

    fn request(kind: u16, offset: u64, length: u32) -> Vec<u8> {
        let head = [&REQUEST.to_be_bytes()[..], &[0, 0], &kind.to_be_bytes(), b"12345678"].concat();
        [&head[..], &offset.to_be_bytes(), &length.to_be_bytes()].concat()
    }

    #[test]
    fn the_beginning_is_another_one_once_it_was_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let told = folder.path().join("told");
        let mut swapped = Swapped::new(disk(1), disk(2), 4096, Some(told.clone())).unwrap();
        assert_eq!(swapped.read(0, 512).unwrap(), [1; 512]);
        assert!(!told.exists());
        assert_eq!(swapped.read(0, 8192).unwrap(), [1; 8192]);
        assert!(told.exists());
        assert_eq!(swapped.read(0, 8192).unwrap(), [[2; 4096], [1; 4096]].concat());
        assert_eq!(swapped.read(4096, 512).unwrap(), [1; 512]);
        assert!(swapped.read(8192, 1).is_err());
    }

    #[test]
    fn a_peer_negotiates_and_reads() {
        let (mut peer, server) = UnixStream::pair().unwrap();
        let serving = std::thread::spawn(move || {
            Swapped::new(disk(1), disk(2), 4096, None).unwrap().serve(server).unwrap();
        });
        let hello: [u8; 18] = array(&mut peer).unwrap();
        assert_eq!(&hello, b"NBDMAGICIHAVEOPT\0\x03");
        peer.write_all(&[0, 0, 0, 3]).unwrap();
        for (option, kind, data) in [(8_u32, UNSUPPORTED, 0), (GO, INFO, 12)] {
            peer.write_all(&[&OPTION[..], &option.to_be_bytes(), &0_u32.to_be_bytes()].concat()).unwrap();
            let reply: [u8; 20] = array(&mut peer).unwrap();
            assert_eq!(reply[12..16], kind.to_be_bytes());
            assert_eq!(reply[16..], u32::to_be_bytes(data));
        }
        let export: [u8; 12] = array(&mut peer).unwrap();
        assert_eq!(export[2..10], 8192_u64.to_be_bytes());
        let _ack: [u8; 20] = array(&mut peer).unwrap();
        peer.write_all(&request(READ, 8000, 3)).unwrap();
        let reply: [u8; 19] = array(&mut peer).unwrap();
        assert_eq!(&reply[8..], b"12345678\x01\x01\x01");
        peer.write_all(&request(1, 0, 0)).unwrap();
        let reply: [u8; 16] = array(&mut peer).unwrap();
        assert_eq!(reply[4..8], NOT_PERMITTED.to_be_bytes(), "it is read-only");
        peer.write_all(&request(DISCONNECT, 0, 0)).unwrap();
        serving.join().unwrap();
    }
}
