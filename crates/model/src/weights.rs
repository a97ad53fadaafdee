//! A trained network in one safetensors file: the weights, and in the `__metadata__` header what
//! is needed to use them.
//!
//! The tensors have PyTorch's names and shapes (`conv1.weight` (O, C, 5, 5), …), f32 or f64.
//! The header is strings, structured values as JSON:
//!
//! | key | value |
//! |---|---|
//! | `format` | `pt`, which tools take as PyTorch's layout |
//! | `format_version` | `2.0`: a reader of 2.x reads every 2.y and every 1.y |
//! | `producer`, `version` | what wrote the file, and its version |
//! | `net` | [`NetworkConfig`] |
//! | `input`, `embedding` | (C, H, W) and D once more, for readers that do not know `net` |
//! | `normalisation` | [`Preprocessing`] |
//! | `threshold` | pairs at this distance or closer are similar; absent before calibration |
//! | `calibration` | [`Calibration`]; absent before calibration and in files of 1.0 |
//! | `head` | how the last layer was fitted after training, such as `lda`; absent where it is as trained |
//! | `classes` | names of the classes, in the order of their labels |
//! | `pretrained` | what is needed to find the encoder of a network whose trunk is one; else absent |
//!
//! The file of such an encoder may be in the model file too: the tensor `trunk.onnx`, bytes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
pub use metrics::Calibration;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorInfo, View};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::parameter::plan;
use crate::{ModelError, Network, NetworkConfig, Parameter, Result, Trunk};

const FORMAT_VERSION: &str = "2.0";

/// What files say they were written by.
pub(crate) const PRODUCER: &str = "siamese network in Rust, on candle";

/// How an image's bytes become the network's input: (byte · scale − mean) / std.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Multiplies the byte, 0 to 255; above 0. Caffe's MNIST example has 1/256.
    pub scale: f32,
    /// Is subtracted after scaling.
    pub mean: f32,
    /// Divides last; above 0.
    pub std: f32,
    /// Pixels of the square that a drawing's ink is fitted into before it is centred; MNIST: 20.
    /// `None`, and absent from the file, where pictures are letterboxed whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ink_side: Option<u32>,
}

/// What a model file says besides the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFile {
    /// The network.
    pub config: NetworkConfig,
    /// What its images went through.
    pub preprocessing: Preprocessing,
    /// The calibrated verification threshold, an embedding distance; `None` before calibration.
    pub threshold: Option<f64>,
    /// What the threshold was chosen by; `None` before calibration and in older files.
    pub calibration: Option<Calibration>,
    /// How the last layer was fitted after training; `None` where it is as trained. For people alone:
    /// nothing is computed otherwise for it.
    pub head: Option<String>,
    /// Names of the classes it was trained on, in the order of their labels.
    pub classes: Vec<String>,
    /// Version of the program that wrote the file.
    pub version: String,
    /// The encoder whose features are the network's input, where its trunk is [`Onnx`](crate::Trunk::Onnx).
    pub pretrained: Option<Pretrained>,
}

/// A pretrained encoder, as a model file has it. What the entry means is for those to know who run it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pretrained {
    /// Which it is and how it is used.
    pub record: Value,
    /// Its file, if the model file has that too.
    pub file: Option<Arc<[u8]>>,
}

/// The tensor that is the file of a pretrained encoder.
const TRUNK_FILE: &str = "trunk.onnx";

impl ModelFile {
    fn validate(&self) -> Result<()> {
        let p = &self.preprocessing;
        let positive = |x: f32| x.is_finite() && x > 0.0;
        if !(positive(p.scale) && p.mean.is_finite() && positive(p.std)) {
            let problem = format!("needs a finite mean, and scale and std above 0: {p:?}");
            return Err(ModelError::header("normalisation", problem));
        }
        if let Some(threshold) = self.threshold.filter(|t| !(t.is_finite() && *t >= 0.0)) {
            let problem = format!("is {threshold}: a distance is finite and at least 0");
            return Err(ModelError::header("threshold", problem));
        }
        if self.pretrained.is_some() != (self.config.trunk == Trunk::Onnx) {
            let problem = match self.pretrained {
                Some(_) => "is there, and the trunk of `net` is another",
                None => "is missing, and the trunk of `net` is one",
            };
            return Err(ModelError::header("pretrained", problem));
        }
        Ok(())
    }

    pub(crate) fn to_header(&self) -> BTreeMap<&'static str, String> {
        let c = &self.config;
        let mut header = BTreeMap::from([
            ("format", "pt".to_string()),
            ("format_version", FORMAT_VERSION.into()),
            ("producer", PRODUCER.into()),
            ("version", self.version.clone()),
            ("net", net(c)),
            ("input", json(&c.input)),
            ("embedding", json(&c.embedding)),
            ("normalisation", json(&self.preprocessing)),
            ("classes", json(&self.classes)),
        ]);
        if let Some(threshold) = self.threshold {
            header.insert("threshold", json(&threshold));
        }
        if let Some(calibration) = &self.calibration {
            header.insert("calibration", json(calibration));
        }
        if let Some(pretrained) = &self.pretrained {
            header.insert("pretrained", json(&pretrained.record));
        }
        if let Some(head) = &self.head {
            header.insert("head", head.clone());
        }
        header
    }

    fn from_header(header: &HashMap<String, String>) -> Result<Self> {
        let format = entry(header, "format_version")?;
        let major = |version: &str| version.split('.').next()?.parse::<u64>().ok();
        if major(format).is_none() {
            let problem = format!("is `{format}`, not a version like {FORMAT_VERSION}");
            return Err(ModelError::header("format_version", problem));
        }
        if major(format) > major(FORMAT_VERSION) {
            return Err(ModelError::Format {
                place: format!("model format {format}"),
                problem: format!(
                    "is newer than {FORMAT_VERSION}, the newest this program reads; update it"
                ),
            });
        }
        let file = Self {
            config: parsed(header, "net")?,
            preprocessing: parsed(header, "normalisation")?,
            threshold: optional(header, "threshold")?,
            calibration: optional(header, "calibration")?,
            head: header.get("head").cloned(),
            classes: parsed(header, "classes")?,
            version: entry(header, "version")?.clone(),
            pretrained: optional(header, "pretrained")?
                .map(|record| Pretrained { record, file: None }),
        };
        file.validate()?;
        Ok(file)
    }
}

/// Without the keys that say nothing: files from before there were such keys keep their bytes.
fn net(config: &NetworkConfig) -> String {
    let idle = [
        r#","norm":"none""#,
        r#","grid":1"#,
        r#","every_stage":false"#,
        r#","normalised":false"#,
    ];
    idle.iter()
        .fold(json(config), |net, idle| net.replace(idle, ""))
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("numbers, strings and structs of them always have a JSON")
}

fn entry<'a>(header: &'a HashMap<String, String>, key: &'static str) -> Result<&'a String> {
    header.get(key).ok_or_else(|| {
        ModelError::header(key, "is missing; was this file written by this program?")
    })
}

fn parsed<T: DeserializeOwned>(header: &HashMap<String, String>, key: &'static str) -> Result<T> {
    let text = entry(header, key)?;
    serde_json::from_str(text).map_err(|e| ModelError::header(key, format!("is `{text}`: {e}")))
}

fn optional<T: DeserializeOwned>(
    header: &HashMap<String, String>,
    key: &'static str,
) -> Result<Option<T>> {
    let present = header.contains_key(key);
    present.then(|| parsed(header, key)).transpose()
}

/// The bytes of a model file. The same network and `file` give the same bytes.
///
/// Not `safetensors::serialize`, which writes the header's entries in the order of a `HashMap`,
/// another one in every run.
///
/// # Errors
/// A `file.config` that is not the network's, values in `file` that make no sense, weights that
/// are not finite, and whatever candle reports for the device.
pub fn to_bytes(net: &Network, file: &ModelFile) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Header<'a> {
        #[serde(rename = "__metadata__")]
        metadata: BTreeMap<&'static str, String>,
        #[serde(flatten)]
        tensors: BTreeMap<&'a str, TensorInfo>,
    }
    let (config, described) = (net.config(), &file.config);
    if described != config {
        let problem = format!(
            "describes another network ({described:?}) than the one to be stored ({config:?})"
        );
        return Err(ModelError::header("net", problem));
    }
    file.validate()?;
    let mut parameters: Vec<&Parameter> = net.parameters().iter().collect();
    parameters.sort_by(|a, b| a.name.cmp(&b.name));
    let mut data = Vec::new();
    let mut tensors = BTreeMap::new();
    for Parameter { name, var, .. } in parameters {
        check_finite(name, var)?;
        let start = data.len();
        data.extend_from_slice(&var.as_tensor().data());
        let info = TensorInfo {
            dtype: var.dtype().into(),
            shape: var.dims().to_vec(),
            data_offsets: (start, data.len()),
        };
        tensors.insert(name.as_str(), info);
    }
    let trunk = file.pretrained.as_ref().and_then(|of| of.file.as_ref());
    if let Some(trunk) = trunk {
        // Last, so that the numbers before it stay aligned.
        let info = TensorInfo {
            dtype: Dtype::U8,
            shape: vec![trunk.len()],
            data_offsets: (data.len(), data.len() + trunk.len()),
        };
        tensors.insert(TRUNK_FILE, info);
        data.extend_from_slice(trunk);
    }
    let metadata = file.to_header();
    let mut header = json(&Header { metadata, tensors }).into_bytes();
    // The format's readers want the data aligned to 8 bytes; spaces are its padding.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut header);
    bytes.append(&mut data);
    Ok(bytes)
}

/// The network in the bytes of a model file, on `device`, in the element type it was stored in.
///
/// # Errors
/// Bytes that are not a whole safetensors file; a header that is missing, incomplete, of a newer
/// major format version or describes no network; a tensor that is missing, unknown, of another
/// shape or type than the header's network has, or not finite.
pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<(Network, ModelFile)> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    let tensors = SafeTensors::deserialize(bytes)?;
    let header = metadata.metadata().clone().unwrap_or_default();
    let mut file = ModelFile::from_header(&header)?;
    if let Some(pretrained) = &mut file.pretrained
        && let Ok(view) = tensors.tensor(TRUNK_FILE)
    {
        pretrained.file = Some(view.data().into());
    }
    let planned = plan(&file.config)?;
    let mut unknown = tensors.names();
    let trunk = |name: &str| name == TRUNK_FILE && file.pretrained.is_some();
    unknown.retain(|name| !trunk(name) && !planned.iter().any(|known| known.name == *name));
    unknown.sort_unstable();
    if let Some(name) = unknown.first() {
        let problem = "is not part of the network in the header";
        return Err(ModelError::tensor(name, problem));
    }
    let mut dtype = None;
    let mut parameters = Vec::new();
    for parameter in planned {
        let (name, shape) = (&parameter.name, parameter.shape.dims());
        let wrong = |problem: String| Err(ModelError::tensor(name, problem));
        let Ok(view) = tensors.tensor(name) else {
            return wrong("is missing".into());
        };
        if view.shape() != shape {
            let found = view.shape();
            return wrong(format!("has shape {found:?}, the network needs {shape:?}"));
        }
        let found = view.dtype();
        let dtype = *dtype.get_or_insert(found);
        if found != dtype {
            return wrong(format!("is {found:?} where others are {dtype:?}"));
        }
        if !matches!(dtype, Dtype::F32 | Dtype::F64) {
            return wrong(format!("is {dtype:?}, not F32 or F64"));
        }
        let values = view.load(&Device::Cpu)?;
        check_finite(name, &values)?;
        parameters.push(parameter.with(&values.to_device(device)?)?);
    }
    let net = Network::from_parameters(file.config.clone(), parameters)?;
    Ok((net, file))
}

/// Reads a model file.
///
/// # Errors
/// [`ModelError::Open`], which names `path`, with the file system's or [`from_bytes`]' reason.
pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<(Network, ModelFile)> {
    let path = path.as_ref();
    std::fs::read(path)
        .map_err(ModelError::from)
        .and_then(|bytes| from_bytes(&bytes, device))
        .map_err(|source| ModelError::Open {
            path: path.into(),
            source: Box::new(source),
        })
}

fn check_finite(name: &str, tensor: &Tensor) -> Result<()> {
    let values = tensor
        .flatten_all()?
        .to_dtype(DType::F64)?
        .to_vec1::<f64>()?;
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(i) => {
            let problem = format!("has the value {} at place {i}", values[i]);
            Err(ModelError::tensor(name, problem))
        }
    }
}
