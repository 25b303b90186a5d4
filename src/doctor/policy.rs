//! The smallest policies for a bucket, as `docs/policies.md` has them, for one bucket and prefix.

/// What somebody does with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Writes it.
    Exporter,
    /// Reads it.
    Importer,
}

/// A policy for everything beside `prefix`, the snapshot's own: the next one is to work as well.
pub(super) fn text(role: Role, bucket: &str, prefix: &str) -> String {
    let above = prefix.rsplit_once('/').map_or(String::new(), |(above, _)| format!("{above}/"));
    let actions = match role {
        Role::Exporter => r#"["s3:PutObject", "s3:GetObject", "s3:DeleteObject"]"#,
        Role::Importer => r#""s3:GetObject""#,
    };
    let resource = match role {
        Role::Exporter => "\n      ",
        Role::Importer => " ",
    };
    format!(
        r#"{{
  "Version": "2012-10-17",
  "Statement": [
    {{ "Effect": "Allow", "Action": {actions},{resource}"Resource": "arn:aws:s3:::{bucket}/{above}*" }},
    {{ "Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::{bucket}",
      "Condition": {{ "StringLike": {{ "s3:prefix": "{above}*" }} }} }}
  ]
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_the_documented_ones() {
        let page = include_str!("../../docs/policies.md");
        for role in [Role::Exporter, Role::Importer] {
            let text = text(role, "BUCKET", "exports/2026-11");
            assert!(page.contains(&format!("```json\n{text}```")), "{role:?}: {text}");
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
        assert!(text(Role::Importer, "b", "snap").contains("arn:aws:s3:::b/*"), "a snapshot at the top");
    }
}
