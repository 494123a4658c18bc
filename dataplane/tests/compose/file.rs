//! `compose.yaml`, parsed, with addresses of this machine.

use serde_json::Value;

use crate::services::Service;

pub(crate) struct Compose {
    file: Value,
    /// Addresses in the file, and those of this machine.
    places: Vec<(String, String)>,
}

impl Compose {
    pub(crate) fn read() -> Self {
        let mut file: yaml_serde::Value = yaml_serde::from_str(include_str!("../../../compose.yaml")).unwrap();
        file.apply_merge().unwrap();
        // The network of the file is this machine's loopback.
        let places = vec![("172.31.80.0/24".to_owned(), "127.0.0.0/8".to_owned())];
        Self { file: serde_json::to_value(file).unwrap(), places }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.file["services"].as_object().unwrap().keys()
    }

    pub(crate) fn value(&self, service: &str) -> &Value {
        let value = &self.file["services"][service];
        assert!(value.is_object(), "no service {service}");
        value
    }

    pub(crate) fn text(&self, service: &str, pointer: &str) -> &str {
        self.value(service)
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{service} has no {pointer}"))
    }

    /// Replaces an address of the file with one of this machine.
    pub(crate) fn place(&mut self, address: &str, here: &str) {
        self.places.push((address.to_owned(), here.to_owned()));
    }

    /// A text of the file, or of a file that it mounts, with addresses of this machine.
    pub(crate) fn here(&self, text: &str) -> String {
        self.places.iter().fold(text.to_owned(), |text, (address, here)| text.replace(address.as_str(), here))
    }

    /// The texts in a list of the service.
    pub(crate) fn list(&self, service: &str, pointer: &str) -> Vec<String> {
        let list = self.value(service).pointer(pointer).and_then(Value::as_array);
        let list = list.unwrap_or_else(|| panic!("{service} has no {pointer}"));
        list.iter().map(|text| self.here(text.as_str().expect("numbers are quoted"))).collect()
    }

    /// The environment of the service.
    pub(crate) fn environment(&self, service: &str) -> Vec<(String, String)> {
        let variables = self.value(service)["environment"].as_object().unwrap();
        variables.iter().map(|(name, value)| (name.clone(), self.here(value.as_str().expect("quoted")))).collect()
    }

    /// A service that runs `pingd`, on a free port. Others find it there.
    pub(crate) fn service(&mut self, name: &str) -> Service {
        let check = self.value(name).pointer("/healthcheck/test").map(|_| self.list(name, "/healthcheck/test"));
        let command = self.list(name, "/command");
        let service = Service::new(name, &command, self.environment(name), check.unwrap_or_default());
        self.place(&format!("{name}:8080"), &service.api);
        service
    }
}
