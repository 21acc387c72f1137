//! Packing a folder into a `model` image, on its owner's machine: without root and without device-mapper.
//!
//! An image is 1 MiB of header, then, encrypted, an ext4 file system without a journal, one block with a superblock of
//! `veritysetup`, and a hash tree. The programs `mke2fs` and `debugfs` of e2fsprogs (1.47 or later) make the file system; all else
//! is done here. Owners, groups and times of the files are left out.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use confide_evidence::bytes::{Bytes, Digest};
use confide_release::{Profile, Secret, Verity};

use crate::draw::Draw;
use crate::error::{VolumeError, io};
use crate::header::{HEADER_BYTES, HeaderCopy};
use crate::image::Image;
use crate::json::Hint;
use crate::keyslot::VolumeKey;
use crate::verity::{self, BLOCK};
use crate::write;

/// Bytes that are encrypted at once.
const CHUNK: usize = 1024 * 1024;
/// Bytes of a sector, as they are counted in slices.
const SECTOR: usize = 4096;
/// How often a file system that turns out too small is made again, by an eighth larger.
const ATTEMPTS: u32 = 8;
/// Blocks for what a file system has beside files, beyond the share that grows with it.
const OVERHEAD: u64 = 256;
/// The first number of a file or folder in a new ext4, which is that of `lost+found`.
const FIRST_INODE: u64 = 11;
/// What the file system is made of, whatever the machine's own configuration says.
const FEATURES: &str = "none,dir_index,dir_nlink,extent,extra_isize,filetype,flex_bg,huge_file,large_file,metadata_csum,sparse_super,64bit";
/// Where e2fsprogs are, also for those whose path does not name it.
const PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// What is packed.
#[derive(Debug)]
pub struct Pack<'a> {
    /// The folder: files and folders alone.
    pub from: &'a Path,
    /// The image, which must not exist yet.
    pub file: &'a Path,
    /// What the header says of the broker.
    pub hint: Option<&'a Hint>,
    /// Where keys come from.
    pub draw: &'a mut Draw,
}

/// What a broker must know of an image.
#[derive(Debug)]
pub struct Packed {
    /// The image.
    pub image: Image,
    /// What opens it.
    pub secret: Secret,
    /// The header that opens.
    pub header: Digest,
    /// Bytes behind the header: file system, superblock and tree.
    pub size: u64,
    /// The tree.
    pub verity: Verity,
}

/// Packs a folder.
///
/// While it is made, the image lies under another name beside [`Pack::file`], readable by its owner alone, and is not encrypted
/// yet. With [`Draw::danger_seeded`] the same folder gives the same image.
///
/// # Errors
/// [`VolumeError::Source`] for a folder that holds a link or a special file, [`VolumeError::Exists`], [`VolumeError::Tool`] where
/// e2fsprogs are missing or fail, [`VolumeError::Io`].
pub fn create(pack: Pack<'_>) -> Result<Packed, VolumeError> {
    let Pack { from, file, hint, draw } = pack;
    if file.exists() {
        return Err(VolumeError::Exists { path: file.to_owned() });
    }
    let contents = Contents::of(from)?;
    let image = tempfile::NamedTempFile::new_in(folder(file)).map_err(io("make"))?;
    let uuid = draw.uuid()?;
    let data_blocks = file_system(from, &contents, image.path(), &uuid)?;
    let (salt, tree_uuid) = (Bytes(draw.array()?), draw.array()?);
    let size = verity::size(data_blocks)?;
    let whole = HEADER_BYTES.saturating_add(size);
    image.as_file().set_len(whole).map_err(io("write"))?;
    let verity = verity::build(image.as_file(), HEADER_BYTES, data_blocks, salt, &tree_uuid)?;
    let key = VolumeKey::draw(Profile::Model, draw)?;
    let secret = write::secret(draw)?;
    let cipher = key.sectors();
    copied(image.as_file(), HEADER_BYTES, image.as_file(), size, |first, part| {
        cipher.encrypt(first, SECTOR, part);
    })?;
    let made = write::beginning(&key, &secret, hint, draw)?;
    image.as_file().write_all_at(&made.bytes, 0).map_err(io("write"))?;
    image.as_file().sync_all().map_err(io("write"))?;
    check(image.path(), &made.digest, &secret, &verity)?;
    let image = persist(image, file)?;
    Ok(Packed { image, secret, header: made.digest, size, verity })
}

/// Reads a whole image as a guest would, and holds every block against the tree.
///
/// # Errors
/// What [`HeaderCopy::check`] and [`Header::unlock`](crate::Header::unlock) refuse; [`VolumeError::Verity`]; [`VolumeError::Io`].
pub fn check(image: &Path, header: &Digest, secret: &Secret, verity: &Verity) -> Result<(), VolumeError> {
    let mut file = File::open(image).map_err(io("open"))?;
    let header = HeaderCopy::read(&mut file)?.check(Profile::Model, &[*header])?;
    let sectors = header.unlock(secret)?.sectors();
    let base = header.data_offset();
    verity::check_blocks(verity, |block, buffer| {
        file.read_exact_at(buffer, base.saturating_add(block.saturating_mul(BLOCK)))?;
        sectors.decrypt(block, SECTOR, buffer);
        Ok(())
    })
}

/// Copies data that begin at `base` of an image to another one, behind its header, changed sector by sector. Both may be the same.
pub(crate) fn copied(
    from: &File,
    base: u64,
    to: &File,
    size: u64,
    mut change: impl FnMut(u64, &mut [u8]),
) -> Result<(), VolumeError> {
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    while done < size {
        let length = usize::try_from(size.saturating_sub(done)).unwrap_or(CHUNK).min(CHUNK);
        let part = buffer.get_mut(..length).expect("a part is no longer than the buffer");
        from.read_exact_at(part, base.saturating_add(done)).map_err(io("read"))?;
        change(done.div_euclid(BLOCK), part);
        to.write_all_at(part, HEADER_BYTES.saturating_add(done)).map_err(io("write"))?;
        done = done.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
    }
    Ok(())
}

/// Gives a finished file its name, unless something has it by now. The name lasts when this returns, and nobody else has worked on
/// what it names.
pub(crate) fn persist(image: tempfile::NamedTempFile, file: &Path) -> Result<Image, VolumeError> {
    let failed = |error: tempfile::PersistError| match error.error.kind() {
        std::io::ErrorKind::AlreadyExists => VolumeError::Exists { path: file.to_owned() },
        _ => io("name")(error.error),
    };
    // Of the open file, so that it has the lock under its new name, too.
    let locked = Image::lock(image.as_file().try_clone().map_err(io("open"))?, file)?;
    image.persist_noclobber(file).map_err(failed)?;
    File::open(folder(file)).and_then(|folder| folder.sync_all()).map_err(io("name"))?;
    Ok(locked)
}

/// The folder that a file lies in.
pub(crate) fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What a folder holds.
struct Contents {
    /// Files and folders, itself aside.
    entries: u64,
    /// Blocks of all files and folders.
    blocks: u64,
}

impl Contents {
    fn of(folder: &Path) -> Result<Self, VolumeError> {
        let mut contents = Self { entries: 0, blocks: 0 };
        let mut open = vec![folder.to_owned()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).map_err(io("read a folder for"))? {
                let entry = entry.map_err(io("read a folder for"))?;
                contents.add(&entry.path(), &mut open)?;
            }
        }
        Ok(contents)
    }

    fn add(&mut self, path: &Path, open: &mut Vec<PathBuf>) -> Result<(), VolumeError> {
        // Not the metadata of what a link leads to.
        let metadata = fs::symlink_metadata(path).map_err(io("read a file for"))?;
        if metadata.is_dir() {
            open.push(path.to_owned());
        } else if !metadata.is_file() {
            return Err(VolumeError::Source { path: path.to_owned() });
        }
        self.entries = self.entries.saturating_add(1);
        self.blocks = self.blocks.saturating_add(metadata.len().div_ceil(BLOCK)).saturating_add(1);
        Ok(())
    }

    /// Blocks of a file system that should hold it: an inode has 256 bytes, and bitmaps and extents a hundredth.
    fn estimate(&self) -> u64 {
        let inodes = self.entries.div_ceil(16);
        let share = self.blocks.div_euclid(100);
        [self.blocks, inodes, share].into_iter().fold(OVERHEAD, u64::saturating_add)
    }
}

/// Makes an ext4 at [`HEADER_BYTES`] of the image, and tells its blocks.
fn file_system(from: &Path, contents: &Contents, image: &Path, uuid: &str) -> Result<u64, VolumeError> {
    let mut blocks = contents.estimate();
    let mut attempt = 1;
    loop {
        match make(from, contents, image, uuid, blocks) {
            Err(VolumeError::Tool { .. }) if attempt < ATTEMPTS => {
                attempt = attempt.saturating_add(1);
                blocks = blocks.saturating_add(blocks.div_euclid(8));
            }
            made => return made.and_then(|()| normalise(contents, image)).map(|()| blocks),
        }
    }
}

fn make(from: &Path, contents: &Contents, image: &Path, uuid: &str, blocks: u64) -> Result<(), VolumeError> {
    let size = HEADER_BYTES.saturating_add(blocks.saturating_mul(BLOCK));
    let file = fs::OpenOptions::new().write(true).open(image).map_err(io("open"))?;
    // Nothing of an attempt before.
    file.set_len(0).and_then(|()| file.set_len(size)).map_err(io("write"))?;
    let inodes = contents.entries.saturating_add(FIRST_INODE).saturating_add(16).to_string();
    let extended =
        format!("offset={HEADER_BYTES},hash_seed={uuid},root_owner=0:0,lazy_itable_init=0,nodiscard");
    let mut command = tool("mke2fs");
    command.args(["-q", "-F", "-b", "4096", "-I", "256", "-m", "0", "-U", uuid, "-O", FEATURES]);
    command.args(["-N", &inodes, "-E", &extended, "-d"]).arg(from).arg(image).arg(blocks.to_string());
    finished("mke2fs", &mut command)
}

/// Leaves owners, groups and times out of a file system, and `lost+found`, which nobody packed: only root could read it, and
/// the guest measures every folder of a model as another user.
fn normalise(contents: &Contents, image: &Path) -> Result<(), VolumeError> {
    let mut script = tempfile::NamedTempFile::new().map_err(io("make a list for"))?;
    writeln!(script, "rmdir lost+found").map_err(io("make a list for"))?;
    let last = FIRST_INODE.saturating_add(contents.entries);
    for inode in FIRST_INODE.saturating_add(1)..=last {
        for (field, value) in
            [("uid", "0"), ("gid", "0"), ("atime", "@1"), ("ctime", "@1"), ("mtime", "@1"), ("crtime", "@1")]
        {
            writeln!(script, "set_inode_field <{inode}> {field} {value}").map_err(io("make a list for"))?;
        }
    }
    let mut command = tool("debugfs");
    let mut image = image.as_os_str().to_owned();
    image.push(format!("?offset={HEADER_BYTES}"));
    command.arg("-w").arg("-f").arg(script.path()).arg(image);
    finished("debugfs", &mut command)
}

/// A program of e2fsprogs, with no configuration, language or clock but these.
fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C").env("TZ", "UTC");
    command.env("MKE2FS_CONFIG", "/dev/null").env("E2FSPROGS_FAKE_TIME", "1");
    command.stdin(Stdio::null());
    command
}

fn finished(program: &'static str, command: &mut Command) -> Result<(), VolumeError> {
    let failed = |reason: String| VolumeError::Tool { program, reason };
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(failed(format!("{}: {}", output.status, last.trim().escape_debug())))
}
