//! Decision settings for people (seconds, probabilities, class names) → integers of the artifact.

use std::collections::BTreeMap;

use gru_core::Threshold;
use gru_core::artifact::{DecisionHeader, MAX_VOTES, NEUTRAL_TEMPERATURE, Smoothing};
use gru_core::writer::QuantDecision;
use serde::{Deserialize, Serialize};

pub use crate::tune::TuneSpec;

/// What the device does with the outputs of a stream to reach a decision: the `[decision]` table of a recipe.
///
/// `gru_core::decision` has the rule. Times are given in steps or, where the sample rate is known, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecisionSpec {
    /// How probabilities are smoothed.
    pub smoothing: SmoothingSpec,
    /// A decision is looked for at every so many steps.
    pub every_steps: u32,
    /// Probability from which a class is the decision.
    pub enter: f32,
    /// Probability below which it is it no longer; `enter` where it is not given.
    pub release: Option<f32>,
    /// Other probabilities for some classes, by their names.
    pub classes: BTreeMap<String, LevelSpec>,
    /// How much more probable a class must be than the present one to replace it.
    pub margin: f32,
    /// Steps for which a class stands.
    pub hold_steps: Option<u32>,
    /// The same in milliseconds.
    pub hold_ms: Option<f64>,
    /// Steps after an event within which there is no other one.
    pub refractory_steps: Option<u32>,
    /// The same in milliseconds.
    pub refractory_ms: Option<f64>,
    /// The class that means that nothing happens.
    pub background: Option<String>,
    /// Logits are divided by this before the softmax; above 1 for models that are too sure of themselves.
    pub temperature: f32,
    /// Steps after a reset until there are decisions; measured after training where it is not given.
    pub warm_up_steps: Option<u16>,
    /// Choose temperature, smoothing, thresholds, margin, hold and refractory time after training, on recordings of
    /// people who were held out of it; what the table says of them is tried as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tune: Option<TuneSpec>,
}

/// Probabilities of one class; those of the whole table where they are not given.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LevelSpec {
    /// Probability from which the class is the decision.
    pub enter: Option<f32>,
    /// Probability below which it is it no longer.
    pub release: Option<f32>,
}

/// How probabilities are smoothed.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum SmoothingSpec {
    /// Not at all.
    #[default]
    None,
    /// Exponential mean.
    Exponential {
        /// Time constant in looks (`every_steps` each), taken to the next power of two.
        steps: u32,
    },
    /// Votes of the latest looks.
    Votes {
        /// Looks that count.
        of: u8,
        /// Votes that make a class the decision.
        enter: u8,
        /// Votes that keep it the decision; 1 where it is not given.
        #[serde(default = "one")]
        keep: u8,
    },
}

fn one() -> u8 {
    1
}

impl Default for DecisionSpec {
    fn default() -> Self {
        Self {
            smoothing: SmoothingSpec::None,
            every_steps: 1,
            enter: 0.0,
            release: None,
            classes: BTreeMap::new(),
            margin: 0.0,
            hold_steps: None,
            hold_ms: None,
            refractory_steps: None,
            refractory_ms: None,
            background: None,
            temperature: 1.0,
            warm_up_steps: None,
            tune: None,
        }
    }
}

impl DecisionSpec {
    /// The settings that become `rule`, in a recipe for a model with these classes.
    ///
    /// Times in steps; classes whose thresholds differ from the most common ones stand by themselves.
    pub fn of(rule: &QuantDecision, classes: &[String], warm_up_steps: u16) -> Self {
        let h = rule.header;
        let p = |q: u16| f32::from(q) / 32768.0;
        let times = |t: &Threshold| rule.thresholds.iter().filter(|other| *other == t).count();
        // The first of the most common ones.
        let usual = (rule.thresholds.iter().rev()).max_by_key(|t| times(t));
        let usual = usual.copied().unwrap_or_default();
        Self {
            smoothing: match h.smoothing {
                Smoothing::None => SmoothingSpec::None,
                Smoothing::Exponential { shift } => SmoothingSpec::Exponential {
                    steps: 1 << (shift & 31),
                },
                Smoothing::Votes { of, enter, keep } => SmoothingSpec::Votes { of, enter, keep },
            },
            every_steps: h.every_steps.into(),
            enter: p(usual.enter),
            release: Some(p(usual.release)),
            classes: (classes.iter().zip(&rule.thresholds))
                .filter(|(_, t)| **t != usual)
                .map(|(name, t)| {
                    let level = LevelSpec {
                        enter: Some(p(t.enter)),
                        release: Some(p(t.release)),
                    };
                    (name.clone(), level)
                })
                .collect(),
            margin: p(h.margin),
            hold_steps: Some(h.hold_steps.into()),
            hold_ms: None,
            refractory_steps: Some(h.refractory_steps.into()),
            refractory_ms: None,
            background: (h.background).and_then(|class| classes.get(usize::from(class)).cloned()),
            temperature: f32::from(NEUTRAL_TEMPERATURE) / f32::from(h.inverse_temperature.max(1)),
            warm_up_steps: Some(warm_up_steps),
            tune: None,
        }
    }

    /// The integers of the rule for a model of these outputs; the error is one line.
    ///
    /// # Errors
    /// Numbers out of their range, names that are no class, milliseconds without a sample rate.
    pub fn quantize(
        &self,
        classes: &[String],
        outputs: usize,
        sample_rate_hz: f32,
    ) -> Result<QuantDecision, String> {
        let index = |name: &str| {
            let known = classes.iter().position(|c| c == name);
            known.ok_or_else(|| format!("no class {name:?} among {}", classes.join(", ")))
        };
        let steps = |what: &str, steps: Option<u32>, ms: Option<f64>| {
            let steps = match (steps, ms) {
                (Some(_), Some(_)) => {
                    return Err(format!("{what}_steps and {what}_ms, expected one of them"));
                }
                (Some(steps), None) => f64::from(steps),
                (None, None) => 0.0,
                (None, Some(_)) if sample_rate_hz <= 0.0 => {
                    return Err(format!(
                        "{what}_ms, but the sample rate is not known; give {what}_steps"
                    ));
                }
                (None, Some(ms)) => (ms / 1000.0 * f64::from(sample_rate_hz)).ceil(),
            };
            match (0.0..=65535.0).contains(&steps) {
                true => Ok(steps as u16),
                false => Err(format!("{what} of {steps} steps, expected at most 65535")),
            }
        };
        if !(self.temperature >= 1.0 / 16.0 && self.temperature <= 16.0) {
            return Err(format!(
                "temperature {}, expected 1/16 to 16",
                self.temperature
            ));
        }
        if let Some(tune) = &self.tune {
            tune.check().map_err(|e| format!("tune.{e}"))?;
        }
        let inverse = f64::from(NEUTRAL_TEMPERATURE) / f64::from(self.temperature);
        let every_steps = u16::try_from(self.every_steps).unwrap_or(0);
        if every_steps == 0 {
            return Err(format!(
                "every_steps {}, expected 1 to 65535",
                self.every_steps
            ));
        }
        let thresholds = (0..outputs)
            .map(|output| {
                let own = classes.get(output).and_then(|name| self.classes.get(name));
                let own = own.copied().unwrap_or_default();
                let enter = own.enter.unwrap_or(self.enter);
                // A threshold of the table that is above that of the class would be no hysteresis.
                let release = own.release.or(self.release.map(|r| r.min(enter)));
                let release = release.unwrap_or(enter);
                Ok(Threshold {
                    enter: q15("enter", enter, 1.0)?,
                    release: q15("release", release, enter)?,
                })
            })
            .collect::<Result<Vec<_>, String>>()?;
        for name in self.classes.keys() {
            index(name)?;
        }
        let header = DecisionHeader {
            inverse_temperature: inverse.round().min(65535.0) as u16,
            every_steps,
            smoothing: self.smoothing.quantize()?,
            margin: q15("margin", self.margin, 1.0)?,
            hold_steps: steps("hold", self.hold_steps, self.hold_ms)?,
            refractory_steps: steps("refractory", self.refractory_steps, self.refractory_ms)?,
            background: match &self.background {
                Some(name) => Some(index(name)? as u16),
                None => None,
            },
        };
        if header.margin != 0 && matches!(header.smoothing, Smoothing::Votes { .. }) {
            return Err("margin together with votes, expected one of them".into());
        }
        Ok(QuantDecision { header, thresholds })
    }
}

impl SmoothingSpec {
    fn quantize(self) -> Result<Smoothing, String> {
        match self {
            Self::None => Ok(Smoothing::None),
            Self::Exponential { steps } => {
                let shift = f64::from(steps).log2().round();
                match (1.0..=12.0).contains(&shift) {
                    true => Ok(Smoothing::Exponential { shift: shift as u8 }),
                    false => Err(format!("smoothing over {steps} steps, expected 2 to 4096")),
                }
            }
            Self::Votes { of, enter, keep } => {
                let sound = 1 <= keep && keep <= enter && enter <= of;
                match sound && usize::from(of) <= MAX_VOTES {
                    true => Ok(Smoothing::Votes { of, enter, keep }),
                    false => Err(format!(
                        "votes of {of}, enter {enter}, keep {keep}: expected 1 <= keep <= enter <= of <= {MAX_VOTES}"
                    )),
                }
            }
        }
    }
}

fn q15(what: &str, p: f32, most: f32) -> Result<u16, String> {
    match (0.0..=most).contains(&p) {
        true => Ok((f64::from(p) * 32768.0).round() as u16),
        false => Err(format!("{what} {p}, expected 0 to {most}")),
    }
}

/// The rule in a line or two, for people.
pub fn describe(rule: &QuantDecision, classes: &[String]) -> Vec<String> {
    let h = rule.header;
    let p = |q: u16| f64::from(q) / 32768.0;
    let name = |k: usize| classes.get(k).cloned().unwrap_or(format!("output {k}"));
    let smoothing = match h.smoothing {
        Smoothing::None => "no smoothing".to_owned(),
        Smoothing::Exponential { shift } => format!("exponential mean over {}", 1u32 << shift),
        Smoothing::Votes { of, enter, keep } => {
            format!("{enter} of {of} votes, {keep} to stay")
        }
    };
    let mut lines = vec![format!(
        "every {} steps, {smoothing}, temperature {:.2}, margin {:.3}, hold {} steps, refractory {} steps{}",
        h.every_steps,
        f64::from(NEUTRAL_TEMPERATURE) / f64::from(h.inverse_temperature),
        p(h.margin),
        h.hold_steps,
        h.refractory_steps,
        match h.background {
            Some(class) => format!(", background {}", name(class.into())),
            None => String::new(),
        }
    )];
    let mut same: Vec<(Threshold, Vec<String>)> = Vec::new();
    for (k, t) in rule.thresholds.iter().enumerate() {
        match same.iter_mut().find(|(other, _)| other == t) {
            Some((_, names)) => names.push(name(k)),
            None => same.push((*t, vec![name(k)])),
        }
    }
    for (t, names) in same {
        let names = match names.len() {
            n if n == rule.thresholds.len() && n > 1 => "all classes".to_owned(),
            _ => names.join(", "),
        };
        lines.push(format!(
            "enter at {:.3}, release below {:.3}: {names}",
            p(t.enter),
            p(t.release)
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Vec<String> {
        ["rest", "walk", "knock"].map(str::to_owned).to_vec()
    }

    fn from(text: &str) -> Result<QuantDecision, String> {
        let spec: DecisionSpec = toml::from_str(text).map_err(|e| e.message().to_owned())?;
        spec.quantize(&classes(), 3, 50.0)
    }

    #[test]
    fn a_table_becomes_integers() {
        let rule = from(
            r#"
            smoothing = { kind = "exponential", steps = 8 }
            enter = 0.75
            release = 0.5
            hold_ms = 390
            refractory_steps = 40
            background = "rest"
            temperature = 2.0
            margin = 0.125
            classes.knock = { enter = 0.25 }
            "#,
        )
        .unwrap();
        assert_eq!(
            rule.header,
            DecisionHeader {
                inverse_temperature: 2048,
                smoothing: Smoothing::Exponential { shift: 3 },
                margin: 4096,
                hold_steps: 20,
                refractory_steps: 40,
                background: Some(0),
                ..DecisionHeader::new()
            }
        );
        let level = |enter, release| Threshold { enter, release };
        let usual = level(24576, 16384);
        assert_eq!(rule.thresholds, [usual, usual, level(8192, 8192)]);
        let text = describe(&rule, &classes()).join("\n");
        assert!(
            text.contains("hold 20 steps")
                && text.contains("0.750, release below 0.500: rest, walk"),
            "{text}"
        );
    }

    #[test]
    fn a_rule_becomes_the_table_that_it_comes_from() {
        for text in [
            "",
            "smoothing = { kind = \"votes\", of = 9, enter = 6, keep = 3 }\nclasses.knock = { enter = 0.6, release = 0.1 }",
            "smoothing = { kind = \"exponential\", steps = 64 }\nmargin = 0.1\ntemperature = 1.43\nenter = 0.7\nrelease = 0.33",
            "background = \"walk\"\nhold_ms = 390\nrefractory_steps = 40\nevery_steps = 5\nclasses.rest = { enter = 1.0 }",
            "temperature = 0.0633",
        ] {
            let rule = from(text).unwrap();
            let spec = DecisionSpec::of(&rule, &classes(), 17);
            assert_eq!(spec.warm_up_steps, Some(17));
            // As text as well, without a sample rate.
            let text = toml::to_string(&spec).unwrap();
            let read: DecisionSpec = toml::from_str(&text).unwrap();
            assert_eq!(read, spec, "{text}");
            assert_eq!(read.quantize(&classes(), 3, 0.0), Ok(rule), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (text, part) in [
            ("enter = 1.5", "enter 1.5"),
            ("enter = nan", "enter NaN"),
            (
                "classes.walk = { enter = 0.2, release = 0.3 }",
                "release 0.3",
            ),
            ("classes.run = { enter = 0.2 }", "no class \"run\""),
            ("background = \"idle\"", "no class \"idle\""),
            ("temperature = 0.0", "temperature 0"),
            ("every_steps = 0", "every_steps 0"),
            ("hold_ms = 1e7", "hold of 500000 steps"),
            ("hold_ms = 10\nhold_steps = 1", "hold_steps and hold_ms"),
            (
                "smoothing = { kind = \"exponential\", steps = 1 }",
                "over 1 steps",
            ),
            (
                "smoothing = { kind = \"votes\", of = 40, enter = 2 }",
                "votes of 40",
            ),
            (
                "smoothing = { kind = \"votes\", of = 3, enter = 2 }\nmargin = 0.1",
                "margin",
            ),
            ("hysteresis = 0.1", "unknown field"),
            (
                "tune = { max_false_alarms_per_hour = -1.0 }",
                "tune.max_false_alarms_per_hour -1",
            ),
            ("tune = { misses = 1 }", "unknown field"),
        ] {
            let refused = from(text).unwrap_err();
            assert!(refused.contains(part), "{text}: {refused}");
        }
        let spec: DecisionSpec = toml::from_str("refractory_ms = 10").unwrap();
        let refused = spec.quantize(&classes(), 3, 0.0).unwrap_err();
        assert!(refused.contains("sample rate"), "{refused}");
    }
}
