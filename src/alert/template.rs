//! Text with placeholders: `{class} at {source}`. Parsed once, when the configuration is read, so that
//! filling it in can't fail. Pure.

use std::fmt;
use std::str::FromStr;

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Alert,
    Class,
    Source,
    Node,
    Score,
    Level,
    Start,
    StartLocal,
    End,
    Duration,
    Count,
    HeldBack,
    Stage,
    Id,
}

impl Field {
    /// All of them, by the names that are written.
    pub const ALL: [(&'static str, Self); 14] = [
        ("alert", Self::Alert),
        ("class", Self::Class),
        ("source", Self::Source),
        ("node", Self::Node),
        ("score", Self::Score),
        ("level", Self::Level),
        ("start", Self::Start),
        ("start_local", Self::StartLocal),
        ("end", Self::End),
        ("duration", Self::Duration),
        ("count", Self::Count),
        ("held_back", Self::HeldBack),
        ("stage", Self::Stage),
        ("id", Self::Id),
    ];
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

/// Why text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("there is no placeholder {{{0}}}; there are {list}", list = known())]
    Unknown(String),
    #[error("a {{ is never closed; write {{{{ for a brace that is meant as one")]
    Open,
    #[error("a }} closes nothing; write }}}} for a brace that is meant as one")]
    Stray,
}

fn known() -> String {
    Field::ALL.map(|(name, _)| format!("{{{name}}}")).join(" ")
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = brace.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = brace.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else if let Some(inside) = brace.strip_prefix('{') {
                let (name, after) = inside.split_once('}').ok_or(TemplateError::Open)?;
                let field = Field::ALL.iter().find(|(known, _)| *known == name);
                let (_, field) = field.ok_or_else(|| TemplateError::Unknown(shortened(name)))?;
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Field(*field));
                rest = after;
            } else {
                return Err(TemplateError::Stray);
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

/// Enough of a name to find it again, on one line.
fn shortened(name: &str) -> String {
    name.chars().take(40).filter(|c| !c.is_control()).collect()
}

impl Template {
    /// The text with what `value` gives in place of each placeholder.
    pub fn fill(&self, value: impl Fn(Field) -> String) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Field(field) => value(*field),
            })
            .collect()
    }
}

/// As it was written.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(text: &str) -> String {
        text.parse::<Template>().unwrap().fill(|field| format!("<{field:?}>"))
    }

    #[test]
    fn placeholders_are_filled_in_and_braces_are_braces() {
        for (text, expected) in [
            ("", ""),
            ("plain é", "plain é"),
            ("{class} at {source}", "<Class> at <Source>"),
            ("{{class}}", "{class}"),
            ("{{\"text\": \"{start_local}\"}}", "{\"text\": \"<StartLocal>\"}"),
            ("{class}}}{held_back}", "<Class>}<HeldBack>"),
        ] {
            assert_eq!(filled(text), expected, "{text}");
        }
    }

    #[test]
    fn mistakes_say_what_there_is() {
        let error = |text: &str| text.parse::<Template>().unwrap_err();
        assert_eq!(error("{klass}"), TemplateError::Unknown("klass".to_owned()));
        assert!(error("{klass}").to_string().contains("{alert} {class} {source}"));
        assert_eq!(error("{ class}"), TemplateError::Unknown(" class".to_owned()));
        assert_eq!(error("a { b"), TemplateError::Open);
        assert_eq!(error("a } b"), TemplateError::Stray);
        assert_eq!(error("{{{class}}"), TemplateError::Stray);
        assert!(error("}").to_string().contains("write }} for"));
    }

    proptest! {
        #![proptest_config(crate::testing::cases(512))]

        #[test]
        fn any_text_is_a_template_or_is_refused(text in "([{}]|class|source|[a-z_ \"\\\\é]){0,24}") {
            if let Ok(template) = text.parse::<Template>() {
                prop_assert_eq!(template.to_string(), text);
                template.fill(|_| "{class}".to_owned());
            }
        }

        /// What is escaped comes out as it was, whatever it is.
        #[test]
        fn escaped_text_is_itself(text in any::<String>()) {
            let escaped = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(filled(&escaped), text);
        }

        /// What is filled in is not looked at again.
        #[test]
        fn values_are_not_templates(value in any::<String>()) {
            let template: Template = "{class}".parse().unwrap();
            prop_assert_eq!(template.fill(|_| value.clone()), value);
        }
    }
}
