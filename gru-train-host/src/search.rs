//! Architecture search: which sizes reach which accuracy, under budgets of flash, RAM and work.
//!
//! A trial is a pure function of the space, its number and the data: any machine can run any of
//! them, in any order, and writes one line of JSON for each. The Pareto front is made from the lines.

use std::cmp::Ordering;

use gru_core::artifact::crc32;
use gru_core::layout::Layout;
use gru_core::{Model, writer};
use plotters::prelude::*;
use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Part, Window, split};
use crate::pipeline::{self, Cut, Order, accuracy};
use crate::train::{self, Progress, TrainConfig};

/// Share of the training people that judge; the test people are not looked at.
const JUDGES: f64 = 0.25;

/// What is tried: every combination.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    /// Everything that is not searched.
    pub base: TrainConfig,
    /// Units of each GRU layer.
    pub units: Vec<usize>,
    /// Numbers of GRU layers.
    pub layers: Vec<usize>,
    /// Steps of a window, for recordings with labels per step; 0 for what fits the data.
    pub windows: Vec<usize>,
    /// Seeds; each holds out other people.
    pub seeds: u64,
    /// Order of the weights.
    pub layout: Layout,
    /// What a model may need.
    pub budget: Budget,
}

/// Largest needs of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Bytes of the artifact.
    pub flash: Option<usize>,
    /// Bytes of the state of a stream.
    pub ram: Option<usize>,
    /// Multiply-accumulates of a time step.
    pub macs: Option<usize>,
}

/// The question of one trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Its number.
    pub trial: usize,
    /// Units of each GRU layer.
    pub units: Vec<usize>,
    /// Steps of a window; 0 for what fits the data.
    pub window: usize,
    /// Everything random, and who is held out, follows from it.
    pub seed: u64,
}

/// What a model needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Bytes of the artifact.
    pub flash: usize,
    /// Bytes of the state of a stream.
    pub ram: usize,
    /// Multiply-accumulates of a time step.
    pub macs: usize,
}

/// The answer of one trial: a line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// [`Space::setting`]: answers of another one cannot be compared.
    #[serde(default)]
    pub setting: String,
    /// What was asked.
    #[serde(flatten)]
    pub question: Question,
    /// What the model needs.
    #[serde(flatten)]
    pub needs: Needs,
    /// Accuracy on held-out training people; none where the budget did not allow a training.
    pub float: Option<f64>,
    /// The same of the integer model.
    pub int8: Option<f64>,
}

impl Space {
    /// All trials, in their order.
    pub fn questions(&self) -> Vec<Question> {
        let mut all = Vec::new();
        for &window in &self.windows {
            for &layers in &self.layers {
                for &units in &self.units {
                    for seed in 0..self.seeds {
                        all.push(Question {
                            trial: all.len(),
                            units: vec![units; layers],
                            window,
                            seed,
                        });
                    }
                }
            }
        }
        all
    }

    /// Stands for everything that is the same in all trials: recipe, layout, data. Not the budget.
    pub fn setting(&self, data: &Dataset) -> String {
        let base = TrainConfig {
            threads: 0,
            units: Vec::new(),
            seed: 0,
            ..self.base.clone()
        };
        let steps = data.total_steps();
        let text = format!(
            "{base:?} {:?} {} {:?} {:?} {steps}",
            self.layout, data.name, data.features, data.classes
        );
        format!("{:08x}", crc32(text.as_bytes()))
    }

    /// Whether an answer is one to this question and still stands under the budget.
    pub fn answered(&self, question: &Question, answer: &Answer) -> bool {
        let open = answer.int8.is_none() && self.budget.allows(&answer.needs);
        answer.question == *question && !open
    }

    /// Runs one trial. The error is one line.
    pub fn answer(
        &self,
        question: &Question,
        data: &Dataset,
        observe: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Answer, String> {
        let mut config = self.base.clone();
        config.units.clone_from(&question.units);
        config.seed = question.seed;
        let mut cut = Cut::for_data(data);
        if question.window > 0 && cut.steps > 0 {
            cut.steps = question.window;
        }
        if cut.steps > 0 {
            cut.hop = (cut.steps / 2).max(1);
        }
        let all: Vec<usize> = match data.has_official_split() {
            true => data.part(Part::Train),
            false => split::split(data, 0.25, 0.0, 0).train,
        };
        let (train, judges, _) = split::hold_out(data, &all, JUDGES, 17 + question.seed);
        let (learn, judged) = (cut.windows(data, &train), cut.windows(data, &judges));
        if learn.is_empty() || judged.is_empty() {
            return Err(format!(
                "{} windows to learn from and {} to judge by, expected some of each",
                learn.len(),
                judged.len()
            ));
        }
        let order = Order {
            data,
            train: &learn,
            validation: &[],
            by: data.standardisation(&train),
            config: &config,
            name: data.name.clone(),
            layout: self.layout,
            self_test_steps: 0,
        };
        let needs = needs(&order, &learn[..1])?;
        let mut answer = Answer {
            setting: self.setting(data),
            question: question.clone(),
            needs,
            float: None,
            int8: None,
        };
        if !self.budget.allows(&needs) {
            return Ok(answer);
        }
        let product = pipeline::make(&order, observe)?;
        let bytes = writer::Aligned::new(&product.artifact);
        let model = Model::load(&bytes).map_err(|e| e.to_string())?;
        let float = pipeline::decide_float(&product.fit.model, data, &judged, config.threads)?;
        let int8 = pipeline::decide_int8(&model, data, &judged).map_err(|e| e.to_string())?;
        answer.float = Some(accuracy(&float, &judged));
        answer.int8 = Some(accuracy(&int8.classes, &judged));
        Ok(answer)
    }
}

impl Budget {
    /// Whether a model with these needs may be used.
    pub fn allows(&self, needs: &Needs) -> bool {
        let within = |need: usize, most: Option<usize>| most.is_none_or(|most| need <= most);
        within(needs.flash, self.flash)
            && within(needs.ram, self.ram)
            && within(needs.macs, self.macs)
    }
}

/// What a model of the recipe needs: it does not depend on its weights, so fresh ones will do.
fn needs(order: &Order<'_>, windows: &[Window]) -> Result<Needs, String> {
    let data = order.data;
    let mut model = train::fresh_model(order.config, data.input(), data.classes.len());
    model.name.clone_from(&order.name);
    model.standardize.clone_from(&order.by);
    model.counts_per_unit.clone_from(&data.counts_per_unit);
    model.classes.clone_from(&data.classes);
    model.sample_rate_hz = data.sample_rate_hz;
    let config = TrainConfig {
        weight_bits: order
            .config
            .qat
            .map_or(order.config.weight_bits, |q| q.bits),
        ..order.config.clone()
    };
    let few = Order {
        train: windows,
        config: &config,
        by: order.by.clone(),
        name: order.name.clone(),
        ..*order
    };
    if let Some(p) = config.prune {
        train::prune(&mut model, p.density);
    }
    let (_, _, artifact) = pipeline::export(&few, &model)?;
    let bytes = writer::Aligned::new(&artifact);
    let model = Model::load(&bytes).map_err(|e| e.to_string())?;
    Ok(Needs {
        flash: artifact.len(),
        ram: (2 * model.state_len()).next_multiple_of(4),
        macs: model.macs(),
    })
}

/// The trials of one architecture together.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Units of each GRU layer.
    pub units: Vec<usize>,
    /// Steps of a window.
    pub window: usize,
    /// What it needs.
    pub needs: Needs,
    /// Accuracy of the integer model for each seed.
    pub int8: Vec<f64>,
}

impl Candidate {
    /// Mean over the seeds.
    pub fn mean(&self) -> f64 {
        self.int8.iter().sum::<f64>() / self.int8.len().max(1) as f64
    }
}

/// The architectures among trained trials, by flash.
pub fn candidates(answers: &[Answer]) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = Vec::new();
    for answer in answers {
        let Some(int8) = answer.int8 else { continue };
        let question = &answer.question;
        let known =
            (all.iter_mut()).find(|c| c.units == question.units && c.window == question.window);
        match known {
            Some(candidate) => candidate.int8.push(int8),
            None => all.push(Candidate {
                units: question.units.clone(),
                window: question.window,
                needs: answer.needs,
                int8: vec![int8],
            }),
        }
    }
    all.sort_by(|a, b| {
        let flash = a.needs.flash.cmp(&b.needs.flash);
        let better = b.mean().partial_cmp(&a.mean()).unwrap_or(Ordering::Equal);
        flash.then(better)
    });
    all
}

/// Whether no other candidate is as good in everything and better in something, for each.
pub fn front(all: &[Candidate]) -> Vec<bool> {
    let beats = |a: &Candidate, b: &Candidate| {
        let (x, y) = (&a.needs, &b.needs);
        let no_worse =
            a.mean() >= b.mean() && x.flash <= y.flash && x.ram <= y.ram && x.macs <= y.macs;
        no_worse && (a.mean() > b.mean() || x != y)
    };
    all.iter()
        .map(|candidate| !all.iter().any(|other| beats(other, candidate)))
        .collect()
}

/// Accuracy against flash as SVG; the front is a line.
pub fn picture(all: &[Candidate]) -> Result<String, String> {
    let failed = |e: &dyn std::fmt::Display| format!("picture: {e}");
    let front = front(all);
    let range = |values: &dyn Fn(&Candidate) -> f64| {
        let low = all.iter().map(values).fold(f64::INFINITY, f64::min);
        let high = all.iter().map(values).fold(f64::NEG_INFINITY, f64::max);
        let room = ((high - low) * 0.08).max(1e-3 * high.abs()).max(1e-3);
        low - room..high + room
    };
    if all.is_empty() {
        return Err("picture: no trained trial".into());
    }
    let flash = |c: &Candidate| c.needs.flash as f64;
    let score = |c: &Candidate| 100.0 * c.mean();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (720, 480)).into_drawing_area();
        area.fill(&WHITE).map_err(|e| failed(&e))?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(range(&flash), range(&score))
            .map_err(|e| failed(&e))?;
        chart
            .configure_mesh()
            .x_desc("artifact in bytes")
            .y_desc("int8 accuracy on held-out training people in %")
            .draw()
            .map_err(|e| failed(&e))?;
        let both = || all.iter().zip(&front);
        let line = both()
            .filter(|(_, on)| **on)
            .map(|(c, _)| (flash(c), score(c)));
        chart
            .draw_series(LineSeries::new(line, &BLUE))
            .map_err(|e| failed(&e))?;
        let dots = both().map(|(c, on)| {
            let colour = if *on { BLUE } else { RGBColor(170, 170, 170) };
            Circle::new((flash(c), score(c)), 4, colour.filled())
        });
        chart.draw_series(dots).map_err(|e| failed(&e))?;
        let names = both().filter(|(_, on)| **on).map(|(c, _)| {
            let units: Vec<String> = c.units.iter().map(ToString::to_string).collect();
            Text::new(units.join("+"), (flash(c), score(c)), ("sans-serif", 13))
        });
        chart.draw_series(names).map_err(|e| failed(&e))?;
        area.present().map_err(|e| failed(&e))?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(units: usize, flash: usize, int8: &[f64]) -> Candidate {
        Candidate {
            units: vec![units],
            window: 0,
            needs: Needs {
                flash,
                ram: 2 * units,
                macs: flash,
            },
            int8: int8.to_vec(),
        }
    }

    #[test]
    fn the_front_holds_what_nothing_beats() {
        let all = [
            candidate(4, 500, &[0.8, 0.9]),
            candidate(8, 900, &[0.8, 0.84]),
            candidate(12, 1500, &[0.95]),
            candidate(16, 2500, &[0.95]),
        ];
        assert_eq!(front(&all), [true, false, true, false]);
        let svg = picture(&all).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("artifact in bytes"));
        assert_eq!(svg.matches("<circle").count(), 4);
        assert!(picture(&[]).is_err());
    }

    #[test]
    fn trials_are_numbered_and_those_of_one_architecture_belong_together() {
        let space = Space {
            base: TrainConfig::default(),
            units: vec![8, 16],
            layers: vec![1, 2],
            windows: vec![0],
            seeds: 2,
            layout: Layout::Pair,
            budget: Budget {
                flash: Some(1000),
                ..Budget::default()
            },
        };
        let questions = space.questions();
        assert_eq!(questions.len(), 8);
        assert!(questions.iter().enumerate().all(|(k, q)| q.trial == k));
        let answers: Vec<Answer> = (questions.into_iter())
            .map(|question| {
                let flash = 100 * question.units.iter().sum::<usize>();
                let needs = Needs {
                    flash,
                    ram: 1,
                    macs: 1,
                };
                let int8 = space.budget.allows(&needs).then_some(0.5);
                Answer {
                    setting: "0123abcd".into(),
                    question,
                    needs,
                    float: int8,
                    int8,
                }
            })
            .collect();
        let line = serde_json::to_string(&answers[0]).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&line).unwrap(), answers[0]);
        // What was over the budget is asked again under a larger one.
        let (small, large) = (&answers[0], answers.last().unwrap());
        let stands = |space: &Space, a: &Answer| space.answered(&a.question, a);
        assert!(stands(&space, small) && stands(&space, large));
        let more = Space {
            budget: Budget::default(),
            ..space.clone()
        };
        assert!(stands(&more, small) && !stands(&more, large));
        let found = candidates(&answers);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].units[0], found[0].int8.len()), (8, 2));
    }
}
