//! The error object (spec section "Error"): rendered from [`Error`], and parsed from what a delegate printed.

use serde::Serialize;

use super::json::Object;
use super::version::SpecVersion;
use crate::error::{Error, ErrorKind, Result};

/// The error object as compact JSON. `version` is the input's `cniVersion` when it could be read
/// ([`NetworkConfig::version_of`](super::NetworkConfig::version_of)), else the newest.
///
/// `msg` is the error's sentence, `details` its causes.
pub fn render(error: &Error, version: SpecVersion) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire<'a> {
        cni_version: &'a str,
        code: u32,
        msg: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        details: String,
    }
    let wire = Wire {
        cni_version: version.as_str(),
        // 0 tells a runtime nothing.
        code: match error.kind().code() {
            0 => ErrorKind::Internal.code(),
            code => code,
        },
        msg: error.to_string(),
        details: error.causes(),
    };
    // Strings and numbers always serialize.
    serde_json::to_string(&wire).unwrap_or_default()
}

/// The error that another plugin printed on stdout: its code, its `msg` as the sentence, its `details` as the source.
///
/// # Errors
/// [`ErrorKind::Decode`] when the text is no error object: not an object, or neither `code` nor `msg` in it.
pub fn parse(text: &str) -> Result<Error> {
    let object = Object::parse(text)?.at("error");
    let code = object.u32("code")?;
    let message = object.string("msg")?.filter(|text| !text.is_empty());
    if code.is_none() && message.is_none() {
        return Err(Error::new(
            ErrorKind::Decode,
            "the text is no error object: it has neither `code` nor `msg`",
        ));
    }
    let kind = match code {
        None | Some(0) => ErrorKind::Internal,
        Some(code) => ErrorKind::from_code(code),
    };
    let message = message.unwrap_or_else(|| format!("the plugin failed with code {}", kind.code()));
    let error = Error::new(kind, message);
    // Other plugins put objects into `details` now and then.
    let details = match object.member("details") {
        None => String::new(),
        Some(value) => object
            .string("details")
            .ok()
            .flatten()
            .unwrap_or_else(|| value.get().to_owned()),
    };
    Ok(if details.is_empty() {
        error
    } else {
        error.with_source(details)
    })
}

#[cfg(test)]
mod tests;
