//! The JSON Schemas of the skills that this node offers: arguments are checked
//! before a handler sees them.

use std::collections::BTreeMap;

use jsonschema::Validator;
use waymesh_proto::api::SkillSpec;
use waymesh_proto::envelope::Payload;
use waymesh_proto::error::{Code, Executed, Fault};
use waymesh_proto::ids::SkillName;

/// Violations that an error lists at most. Chosen: more do not help a reader.
const VIOLATIONS_SHOWN: usize = 5;

/// The compiled schemas.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    validators: BTreeMap<SkillName, Validator>,
}

impl Schemas {
    /// Takes a skill's schema in.
    ///
    /// # Errors
    ///
    /// `bad_request` when it is not a JSON Schema.
    pub(crate) fn add(&mut self, spec: &SkillSpec) -> Result<(), Fault> {
        let Some(schema) = &spec.schema else {
            self.validators.remove(&spec.name);
            return Ok(());
        };
        let validator = jsonschema::validator_for(schema).map_err(|error| {
            Fault::new(
                Code::BadRequest,
                format!("the schema of {} is not a JSON Schema: {error}", spec.name),
            )
        })?;
        self.validators.insert(spec.name.clone(), validator);
        Ok(())
    }

    /// Checks the arguments of a call.
    ///
    /// # Errors
    ///
    /// `invalid_arguments`, naming what does not fit.
    pub(crate) fn check(&self, skill: &SkillName, payload: &Payload) -> Result<(), Fault> {
        let Some(validator) = self.validators.get(skill) else {
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

    fn schemas() -> (Schemas, SkillName) {
        let name: SkillName = "add".parse().expect("a name");
        let spec = SkillSpec {
            name: name.clone(),
            description: None,
            schema: Some(json!({
                "type": "object",
                "properties": {"a": {"type": "integer"}},
                "required": ["a"],
            })),
            idempotent: false,
        };
        let mut schemas = Schemas::default();
        schemas.add(&spec).expect("a schema");
        (schemas, name)
    }

    #[test]
    fn arguments_that_fit_pass_and_others_are_told_what_is_wrong() {
        let (schemas, name) = schemas();
        assert!(schemas.check(&name, &Payload::json(r#"{"a":1}"#)).is_ok());
        for bad in [r#"{"a":"x"}"#, "{}", "not json", "[1"] {
            let fault = schemas.check(&name, &Payload::json(bad)).expect_err(bad);
            assert_eq!(fault.code, Code::InvalidArguments);
        }
        let raw = Payload::bytes("application/octet-stream", *b"{}");
        assert!(schemas.check(&name, &raw).is_err());
    }

    #[test]
    fn what_is_not_a_schema_is_refused() {
        let (mut schemas, name) = schemas();
        let spec = SkillSpec {
            name,
            description: None,
            schema: Some(json!({"type": 7})),
            idempotent: false,
        };
        assert_eq!(schemas.add(&spec).expect_err("bad").code, Code::BadRequest);
    }
}
