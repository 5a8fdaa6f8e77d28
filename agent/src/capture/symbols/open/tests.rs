//! What is opened, and what a hostile process would like to have opened.

use super::*;
use crate::capture::symbols::bytes::bytes;
use std::os::unix::fs::symlink;
use std::process::Command;

fn own() -> Directory {
    of_pid(std::process::id()).unwrap()
}

fn in_root(path: &Path) -> Result<Found, Refusal> {
    Found::in_root(&own(), path.as_os_str().as_encoded_bytes())
}

#[test]
fn a_regular_file_is_opened_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("with blank\nand newline");
    std::fs::write(&path, "0123456789").unwrap();
    let found = in_root(&path).unwrap();
    let file = found.open(Some(&own())).unwrap();
    assert_eq!((file.size_bytes(), bytes(&file, 3, 4, 4)), (10, Ok(b"3456".to_vec())));
    assert_eq!(bytes(&file, 8, 4, 4), Err(Flaw::Short));
    // It is not read past the length at which it was found, but it may shrink.
    std::fs::write(&path, "01").unwrap();
    assert_eq!(bytes(&file, 3, 4, 4), Err(Flaw::Short));
    assert_ne!(in_root(&path).unwrap().id, found.id, "other bytes are another file");
}

/// The kernel writes down that a link was followed when that is later than when it was made.
#[test]
fn a_link_that_nobody_followed_leads_to_another_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    symlink("/dev/null", &link).unwrap();
    // The kernel's clock for times of files has ticks of some milliseconds.
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(in_root(&link).unwrap_err(), Refusal::NotAFile);
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let link = folder.path().join("link");
    symlink("/dev/zero", &link).unwrap();
    // Opening the FIFO would wait for a writer for ever.
    for path in [&fifo, &link, &folder.path().to_path_buf(), &"/dev/null".into()] {
        assert_eq!(in_root(path).unwrap_err(), Refusal::NotAFile, "{path:?}");
    }
    assert_eq!(in_root(&folder.path().join("absent")).unwrap_err(), Refusal::Io(io::ErrorKind::NotFound));
    assert_eq!(Found::in_root(&own(), b"/a\0b").unwrap_err(), Refusal::Io(io::ErrorKind::InvalidInput));
    assert!(in_root(Path::new("/proc/self/exe")).is_err(), "a magic link leads anywhere");
}

#[test]
fn links_stay_in_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    std::fs::write(&outside, "secret").unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("inside"), "ours").unwrap();
    symlink("../../../../outside", root.join("up")).unwrap();
    symlink(&outside, root.join("absolute")).unwrap();
    symlink("/inside", root.join("own")).unwrap();
    let root = File::open(&root).unwrap();
    let below = |path: &[u8]| Found::below(root.as_fd(), path);
    assert_eq!(below(b"up").unwrap_err(), Refusal::Io(io::ErrorKind::NotFound));
    assert_eq!(below(b"absolute").unwrap_err(), Refusal::Io(io::ErrorKind::NotFound));
    assert_eq!(below(b"../outside").unwrap_err(), Refusal::Io(io::ErrorKind::NotFound));
    assert_eq!(below(b"own").unwrap().id.size_bytes, 4);
}

#[test]
fn a_mapped_file_is_found_and_another_in_its_place_is_not_taken_for_it() {
    use crate::capture::symbols::maps::{MappingKind, Maps};
    let maps = Maps::parse(&std::fs::read("/proc/self/maps").unwrap());
    let (_, mapping) = maps.find(in_root as *const () as u64).unwrap();
    let MappingKind::File { path, .. } = &mapping.kind else { panic!("{mapping:?}") };
    let found = Found::mapped(&own(), mapping, path).unwrap();
    assert_eq!(found.id, Found::on_host(path).unwrap().id);
    let file = found.open(Some(&own())).unwrap();
    assert_eq!(bytes(&file, 0, 4, 4), Ok(b"\x7fELF".to_vec()));

    // A mapping that `map_files` does not have goes by the path, and there by the inode number.
    let gone = Mapping { range: 16..32, ..mapping.clone() };
    assert_eq!(Found::mapped(&own(), &gone, path).unwrap().id, found.id);
    let other = Mapping { inode: mapping.inode + 1, ..gone };
    assert_eq!(Found::mapped(&own(), &other, path).unwrap_err(), Refusal::Replaced);
}

#[test]
fn file_systems_of_others_are_told_from_the_mount_table() {
    let table = b"\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
210 21 0:50 / /mnt/a\\040b rw - fuse.sshfs host: rw
30 21 0:51 / /mnt/c rw shared:3 master:4 - nfs4 host:/ rw
31 21 0:52 / /x rw - overlay overlay rw,lowerdir=/a - fuse
";
    assert_eq!(file_system(table, 21), Some(&b"ext4"[..]));
    assert_eq!(file_system(table, 210), Some(&b"fuse.sshfs"[..]));
    assert_eq!(file_system(table, 30), Some(&b"nfs4"[..]));
    assert_eq!(file_system(table, 31), Some(&b"overlay"[..]));
    assert_eq!(file_system(table, 2), None);

    let no_such_mount = u64::MAX;
    assert!(is_remote(&own(), no_such_mount, Some((0, 12_345))), "a file system without a disk, unseen");
    assert!(!is_remote(&own(), no_such_mount, Some((254, 0))), "a disk");
    assert!(!is_remote(&own(), no_such_mount, memory_device()));
    assert!(is_remote(&own(), no_such_mount, None));
    let temporary = Found::on_host(std::env::current_exe().unwrap().as_os_str().as_encoded_bytes()).unwrap();
    assert!(!is_remote(&own(), temporary.mount, Some(temporary.id.device)));
}
