//! The text that the demo works on.

use std::fs;
use std::path::Path;

use waymesh_proto::{Code, Fault};

/// The project's own documents.
const OWN: &str = concat!(
    include_str!("../../../../../README.md"),
    "\n",
    include_str!("../../../../../ARCHITECTURE.md"),
    "\n",
    include_str!("../../../../../CHANGELOG.md"),
    "\n",
    include_str!("../../../../../spec/README.md"),
    "\n",
    include_str!("../../../../../spec/frames.md"),
    "\n",
    include_str!("../../../../../spec/envelope.md"),
);

/// Reads the file, or takes the project's own documents.
pub(super) fn read(file: Option<&Path>) -> Result<String, Fault> {
    let Some(path) = file else {
        return Ok(OWN.to_owned());
    };
    let shown = path.display();
    let bytes = fs::read(path).map_err(|error| {
        Fault::new(Code::Storage, format!("{shown} cannot be read: {error}"))
            .with_hint("name a text file, or none to count waymesh's own documents")
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Fault::new(
            Code::NotUtf8,
            format!("{shown} is not UTF-8 text: byte {at} starts no character"),
        )
        .with_hint(format!("convert it first: iconv -t UTF-8 {shown}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_missing_a_folder_or_no_text_is_a_coded_error() {
        let code = |path: &Path| read(Some(path)).expect_err("an error").code;
        let folder = tempfile::tempdir().expect("a folder");
        let binary = folder.path().join("binary");
        fs::write(&binary, [b'a', 0xff]).expect("a file");
        assert_eq!(code(&folder.path().join("none")), Code::Storage);
        assert_eq!(code(folder.path()), Code::Storage);
        assert_eq!(code(&binary), Code::NotUtf8);
    }

    #[test]
    fn without_a_file_there_is_text() {
        assert!(read(None).expect("text").split_whitespace().count() > 100);
    }
}
