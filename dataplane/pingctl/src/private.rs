//! Files that only their owner may read.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Writes `content` to the file at `path`, which a reader sees completely or not at all. Creates its folder if it is missing.
///
/// # Errors
/// When folder or file cannot be written.
pub(crate) fn write(path: &Path, content: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Next to the file, because a file cannot be renamed to another file system. The process makes the name its own.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = folder.join(format!(".{name}.{}", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
    let renamed = written.and_then(|mut file| file.write_all(content.as_bytes())).and_then(|()| fs::rename(&new, path));
    if renamed.is_err() {
        // The first error says more.
        let _ = fs::remove_file(&new);
    }
    renamed
}

/// Whether others than the owner have one of these permissions: 0o4 to read, 0o2 to write.
///
/// # Errors
/// When the file does not exist or cannot be looked at.
pub(crate) fn others_may(path: &Path, permission: u32) -> io::Result<bool> {
    let mode = fs::metadata(path)?.permissions().mode();
    Ok(mode & (permission | (permission << 3)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_is_its_owners_alone_whatever_was_there_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/token");
        write(&path, "first").unwrap();
        assert!(!others_may(&path, 0o6).unwrap() && !others_may(path.parent().unwrap(), 0o7).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(others_may(&path, 0o4).unwrap() && !others_may(&path, 0o2).unwrap());
        write(&path, "second").unwrap();
        assert!(!others_may(&path, 0o6).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
    }
}
