//! `env` in the data folder: where everything is, as a shell file to be sourced. It is there while all is there.

use std::fmt::Write as _;

use crate::{data, data::Data};

const NAME: &str = "env";

/// Writes the file, whole or not at all, for this user alone.
pub(crate) fn write(data: &Data, variables: &[(&str, String)]) -> anyhow::Result<()> {
    data::write_private(&data.path(NAME), &text(variables))
}

/// What a variable is, while all is there.
pub(crate) fn read(data: &Data, name: &str) -> anyhow::Result<Option<String>> {
    let text = data::read(&data.path(NAME))?;
    Ok(text.as_deref().and_then(|text| value(text, name)))
}

/// Removes the file.
pub(crate) fn remove(data: &Data) -> anyhow::Result<()> {
    data::remove(&data.path(NAME))
}

fn text(variables: &[(&str, String)]) -> String {
    variables.iter().fold(String::new(), |mut text, (name, value)| {
        // In single quotes only a single quote is special.
        let value = value.replace('\'', r"'\''");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "export {name}='{value}'");
        text
    })
}

/// Reads back what [`text`] has written.
fn value(text: &str, name: &str) -> Option<String> {
    let start = format!("export {name}='");
    let quoted = text.lines().find_map(|line| line.strip_prefix(&start));
    quoted
        .and_then(|quoted| quoted.strip_suffix('\''))
        .map(|quoted| quoted.replace(r"'\''", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_written() {
        let value = r#"a'b $HOME "c" `d` \e"#;
        let script = format!("{}printf %s \"$JALUR_X\"", text(&[("JALUR_X", value.into())]));
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
        let text = text(&[("JALUR_XY", "other".into()), ("JALUR_X", value.into())]);
        assert_eq!(super::value(&text, "JALUR_X").as_deref(), Some(value));
        assert_eq!(super::value(&text, "JALUR_Z"), None);
    }
}
