//! Links that sign in to the console: `http://host/#code=…`, with a code that is good once.
//!
//! The token itself is in no address, since browsers keep those; and a fragment is sent to no server.

use anyhow::Context as _;
use control_plane::identity::Codes;

use crate::data::Data;

const FOLDER: &str = "codes";

/// Where control planes find the codes, as a variable of theirs.
pub(crate) fn variable(data: &Data) -> anyhow::Result<(String, String)> {
    let folder = data.folder(FOLDER)?;
    let folder = folder.to_str().context("the data folder's path is not UTF-8")?;
    Ok(("JALUR_AUTH__SIGN_IN_FOLDER".to_owned(), folder.to_owned()))
}

/// A new link to the console at `url`.
pub(crate) fn link(data: &Data, url: &str) -> anyhow::Result<String> {
    let codes = Codes::new(data.folder(FOLDER)?);
    let code = codes.issue().context("a link to the console cannot be made")?;
    Ok(format!("{url}/#code={code}"))
}
