//! What a page of the documentation has for its readers to run.

/// The lines of the page's `sh` blocks, in order, and the commands in its tables.
pub fn commands(page: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut in_shell = false;
    for line in page.lines() {
        match line {
            "```sh" => in_shell = true,
            "```" => in_shell = false,
            _ if in_shell => commands.push(line.to_owned()),
            _ if line.starts_with("| ") => {
                commands.extend(
                    line.split('`').skip(1).step_by(2).filter(|code| code.starts_with("make ")).map(Into::into),
                );
            }
            _ => {}
        }
    }
    commands
}

/// The page's `yaml` blocks, in order.
pub fn manifests(page: &str) -> Vec<String> {
    let blocks = page.split("```yaml\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap_or_default().to_owned()).collect()
}
