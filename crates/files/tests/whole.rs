//! A file is written whole or not at all.

use std::fs;
use std::path::Path;

use files::{is_unfinished, write_whole, write_whole_within};

#[test]
fn a_file_is_replaced_and_its_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b.txt");
    for contents in ["first", "second, and longer"] {
        write_whole(&path, contents.as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), contents);
    }
    let names = fs::read_dir(folder.path().join("a")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name());
    assert_eq!(Vec::from_iter(names), ["b.txt"]);
}

#[cfg(unix)]
#[test]
fn a_file_is_as_readable_as_any_new_one() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let [whole, plain] = ["whole", "plain"].map(|name| folder.path().join(name));
    write_whole(&whole, b"").unwrap();
    fs::write(&plain, b"").unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(whole), mode(plain));
}

#[test]
fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("taken");
    // A folder cannot be replaced by a file.
    fs::create_dir(&path).unwrap();
    assert!(write_whole(&path, b"new").is_err());
    assert!(path.is_dir());
    for entry in fs::read_dir(folder.path()).unwrap() {
        assert!(!is_unfinished(&entry.unwrap().file_name()));
    }
}

#[test]
fn a_lock_is_held_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".lock");
    let held = files::lock(&path).unwrap();
    assert!(matches!(
        files::lock(&path),
        Err(fs::TryLockError::WouldBlock)
    ));
    drop(held);
    files::lock(&path).unwrap();
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_replaced_by_one() {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::UnixListener;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    // Nothing can be written to a socket through its path.
    write_whole(&path, b"contents").unwrap_err();
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    write_whole(Path::new("/dev/null"), b"contents").unwrap();
    assert!(
        fs::metadata("/dev/null")
            .unwrap()
            .file_type()
            .is_char_device()
    );
}

#[test]
fn a_folder_that_is_gone_is_not_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    for name in ["file", "below/file"] {
        write_whole_within(&inner, Path::new(name), b"contents").unwrap_err();
    }
    assert!(!inner.exists());
    fs::create_dir(&inner).unwrap();
    for name in ["file", "below/file", "below/other"] {
        write_whole_within(&inner, Path::new(name), b"contents").unwrap();
        assert_eq!(fs::read(inner.join(name)).unwrap(), b"contents");
    }
}
