//! The objects, and what has happened to them.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::fields::{self, Fields};
use super::resource::Resource;
use super::watch;

/// An object as it is at a revision.
#[derive(Debug, Clone)]
pub(super) struct Object {
    /// All of it, as clients get it.
    pub(super) value: Value,
    pub(super) managers: Vec<Manager>,
}

/// Who owns fields, and by which kind of request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manager {
    pub(super) name: String,
    /// `Apply` or `Update`.
    pub(super) operation: &'static str,
    pub(super) status: bool,
    pub(super) time: String,
    pub(super) fields: Fields,
}

/// Something that has happened.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) revision: u64,
    pub(super) resource: Resource,
    pub(super) name: String,
    pub(super) old: Option<Arc<Object>>,
    /// The object as it was last, with the revision of its end, where there is no newer one.
    pub(super) last: Arc<Object>,
    pub(super) gone: bool,
    lines: Arc<[OnceLock<Bytes>; 3]>,
}

impl Event {
    /// A message of a watch, made once for all watches.
    pub(super) fn line(&self, kind: &'static str) -> Bytes {
        let kinds = ["ADDED", "MODIFIED", "DELETED"];
        let made = || watch::line(kind, &self.last.value);
        let mut cells = kinds.iter().zip(self.lines.iter());
        let cell = cells.find(|(have, _)| **have == kind);
        cell.map_or_else(made, |(_, cell)| cell.get_or_init(made).clone())
    }
}

/// All objects of a kind by their names.
pub(super) type Objects = BTreeMap<String, Arc<Object>>;

/// See the [module](self). A clone is a backup.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) revision: u64,
    /// What came to be before this revision, and in it, is not known any more.
    pub(super) compacted: u64,
    objects: BTreeMap<Resource, Objects>,
    log: VecDeque<Event>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            revision: 1000,
            compacted: 1000,
            objects: BTreeMap::new(),
            log: VecDeque::new(),
        }
    }

    pub(super) fn all(&self, resource: Resource) -> Objects {
        self.objects.get(&resource).cloned().unwrap_or_default()
    }

    pub(super) fn get(&self, resource: Resource, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(&resource)?.get(name)
    }

    /// All objects as they were at a revision, if that is still known.
    pub(super) fn at(&self, resource: Resource, revision: u64) -> Option<Objects> {
        if revision < self.compacted || revision > self.revision {
            return None;
        }
        let mut all = self.all(resource);
        let later = self.log.iter().rev();
        let later = later.take_while(|event| event.revision > revision);
        for event in later.filter(|event| event.resource == resource) {
            match &event.old {
                Some(old) => all.insert(event.name.clone(), Arc::clone(old)),
                None => all.remove(&event.name),
            };
        }
        Some(all)
    }

    /// What has happened after a revision.
    pub(super) fn since(&self, revision: u64) -> impl Iterator<Item = &Event> {
        let start = self.log.partition_point(|event| event.revision <= revision);
        self.log.range(start..)
    }

    /// Forgets what has happened.
    pub(super) fn compact(&mut self) {
        // What was known until now goes on to watches that are under way.
        let start = self
            .log
            .partition_point(|event| event.revision <= self.compacted);
        self.log.drain(..start);
        self.compacted = self.revision;
    }

    /// Puts an object in its place, which gets the next revision.
    pub(super) fn put(&mut self, resource: Resource, mut object: Object) -> Arc<Object> {
        self.revision += 1;
        let name = object.name().to_owned();
        object.finish(resource, self.revision);
        let object = Arc::new(object);
        let all = self.objects.entry(resource).or_default();
        let old = all.insert(name.clone(), Arc::clone(&object));
        self.record(resource, name, old, Arc::clone(&object), false);
        object
    }

    /// Removes an object, and what it is the owner of.
    pub(super) fn remove(&mut self, resource: Resource, name: &str) -> Option<Arc<Object>> {
        let old = self.objects.entry(resource).or_default().remove(name)?;
        self.revision += 1;
        let mut last = (*old).clone();
        last.value["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let last = Arc::new(last);
        self.record(
            resource,
            name.to_owned(),
            Some(old),
            Arc::clone(&last),
            true,
        );
        Some(last)
    }

    /// Removes what belongs to owners that are all gone.
    pub(super) fn collect_garbage(&mut self) {
        let living: Vec<Value> = Resource::ALL
            .iter()
            .flat_map(|resource| self.all(*resource).into_values())
            .map(|object| object.value["metadata"]["uid"].clone())
            .collect();
        for resource in Resource::ALL {
            let orphans = self.all(resource).into_iter().filter(|(_, object)| {
                let owners = object.value["metadata"]["ownerReferences"].as_array();
                owners.is_some_and(|owners| {
                    !owners.is_empty() && owners.iter().all(|owner| !living.contains(&owner["uid"]))
                })
            });
            for name in orphans.map(|(name, _)| name).collect::<Vec<_>>() {
                self.remove(resource, &name);
            }
        }
    }

    fn record(
        &mut self,
        resource: Resource,
        name: String,
        old: Option<Arc<Object>>,
        last: Arc<Object>,
        gone: bool,
    ) {
        self.log.push_back(Event {
            revision: self.revision,
            resource,
            name,
            old,
            last,
            gone,
            lines: Arc::default(),
        });
    }
}

impl Object {
    /// One that has nothing yet but what the server gives it.
    pub(super) fn fresh(resource: Resource, name: &str) -> Self {
        let uid = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("a random number");
        let mut value = json!({
            "apiVersion": resource.api_version(),
            "kind": resource.kind(),
            "metadata": { "name": name, "uid": uid.trim(), "creationTimestamp": now() },
        });
        if resource == Resource::NodeNetworks {
            value["metadata"]["generation"] = 1.into();
        }
        Self {
            value,
            managers: Vec::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub(super) fn revision(&self) -> &str {
        let revision = &self.value["metadata"]["resourceVersion"];
        revision.as_str().unwrap_or_default()
    }

    fn finish(&mut self, resource: Resource, revision: u64) {
        self.managers.retain(|manager| !manager.fields.is_empty());
        let managers: Vec<Value> = self
            .managers
            .iter()
            .map(|manager| {
                let mut entry = json!({
                    "manager": manager.name,
                    "operation": manager.operation,
                    "apiVersion": resource.api_version(),
                    "time": manager.time,
                    "fieldsType": "FieldsV1",
                    "fieldsV1": fields::to_json(&manager.fields),
                });
                if manager.status {
                    entry["subresource"] = "status".into();
                }
                entry
            })
            .collect();
        let metadata = &mut self.value["metadata"];
        metadata["resourceVersion"] = revision.to_string().into();
        metadata["managedFields"] = managers.into();
    }
}

/// This moment as RFC 3339 has it, in whole seconds.
pub(super) fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    text_of(since.map_or(0, |since| since.as_secs()))
}

/// Days to a date as Howard Hinnant's `civil_from_days` does it.
fn text_of(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        assert_eq!(text_of(0), "1970-01-01T00:00:00Z");
        assert_eq!(text_of(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(text_of(1_709_251_199), "2024-02-29T23:59:59Z");
    }
}
