//! The JSON Schema of a skill that this node offers: arguments are checked
//! before a handler sees them.

use jsonschema::Validator;
use waymesh_proto::api::SkillSpec;
use waymesh_proto::envelope::Payload;
use waymesh_proto::error::{Code, Executed, Fault};
use waymesh_proto::ids::SkillName;

/// Violations that an error lists at most. Chosen: more do not help a reader.
const VIOLATIONS_SHOWN: usize = 5;

/// The compiled schema of a skill; one without accepts anything.
#[derive(Debug)]
pub(crate) struct Schema(Option<Validator>);

impl Schema {
    /// Compiles the schema of a skill.
    ///
    /// # Errors
    ///
    /// `bad_request` when it is not a JSON Schema.
    pub(crate) fn compile(spec: &SkillSpec) -> Result<Self, Fault> {
        let compiled = spec.schema.as_ref().map(jsonschema::validator_for);
        compiled.transpose().map(Self).map_err(|error| {
            Fault::new(
                Code::BadRequest,
                format!("the schema of {} is not a JSON Schema: {error}", spec.name),
            )
        })
    }

    /// Checks the arguments of a call.
    ///
    /// # Errors
    ///
    /// `invalid_arguments`, naming what does not fit.
    pub(crate) fn check(&self, skill: &SkillName, payload: &Payload) -> Result<(), Fault> {
        let Some(validator) = &self.0 else {
            return Ok(());
        };
        let refuse = |why: String| {
            Err(Fault::new(
                Code::InvalidArguments,
                format!("the arguments do not fit the schema of {skill}: {why}"),
            )
            .with_hint("`waymesh agents --json` shows each skill's schema")
            .with_executed(Executed::No))
        };
        if !payload.is_json() {
            return refuse("the skill takes JSON, not raw bytes".into());
        }
        let value = match serde_json::from_slice(&payload.bytes) {
            Ok(value) => value,
            Err(error) => return refuse(format!("not JSON: {error}")),
        };
        let violations: Vec<String> = validator
            .iter_errors(&value)
            .take(VIOLATIONS_SHOWN)
            .map(|error| match error.instance_path().to_string() {
                at if at.is_empty() => error.to_string(),
                at => format!("{at}: {error}"),
            })
            .collect();
        if violations.is_empty() {
            return Ok(());
        }
        refuse(violations.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(schema: serde_json::Value) -> SkillSpec {
        SkillSpec {
            name: "add".parse().expect("a name"),
            description: None,
            schema: Some(schema),
            idempotent: false,
        }
    }

    #[test]
    fn arguments_that_fit_pass_and_others_are_told_what_is_wrong() {
        let spec = spec(json!({
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "required": ["a"],
        }));
        let schema = Schema::compile(&spec).expect("a schema");
        let check = |payload| schema.check(&spec.name, &payload);
        assert!(check(Payload::json(r#"{"a":1}"#)).is_ok());
        for bad in [r#"{"a":"x"}"#, "{}", "not json", "[1"] {
            let fault = check(Payload::json(bad)).expect_err(bad);
            assert_eq!(fault.code, Code::InvalidArguments);
        }
        assert!(check(Payload::bytes("application/octet-stream", *b"{}")).is_err());
    }

    #[test]
    fn what_is_not_a_schema_is_refused() {
        let refused = Schema::compile(&spec(json!({"type": 7}))).expect_err("bad");
        assert_eq!(refused.code, Code::BadRequest);
    }
}
