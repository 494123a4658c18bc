//! Finding dead letters, page by page, over any transport.

use ping_proto::{DeadLetter, DeadLettersRequest, DeadLettersResponse};

/// Dead letters per call; the most that a server sends.
const PAGE_SIZE: i32 = 500;

/// The first `limit` dead letters that match `request` and are wanted. Each call of `page` is one of `AdminService.DeadLetters`; page size
/// and token of `request` are set here. The token of the result is empty if there are no others.
///
/// # Errors
/// Those of `page`.
pub async fn find_dead_letters<E>(
    mut request: DeadLettersRequest,
    limit: usize,
    is_wanted: impl Fn(&DeadLetter) -> bool,
    page: impl AsyncFn(&DeadLettersRequest) -> Result<DeadLettersResponse, E>,
) -> Result<DeadLettersResponse, E> {
    let mut letters = Vec::new();
    request.page_token.clear();
    loop {
        let left = limit - letters.len();
        request.page_size = PAGE_SIZE.min(i32::try_from(left).unwrap_or(PAGE_SIZE));
        let answer = page(&request).await?;
        letters.extend(answer.letters.into_iter().filter(&is_wanted));
        request.page_token = answer.next_page_token;
        if request.page_token.is_empty() || letters.len() >= limit {
            return Ok(DeadLettersResponse { letters, next_page_token: request.page_token });
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    /// What `find_dead_letters` returns of a topic with `all` dead letters, whose places are their numbers: the places and the token.
    fn find(all: usize, limit: usize, is_wanted: impl Fn(usize) -> bool) -> (Vec<usize>, String) {
        let page = async |request: &DeadLettersRequest| {
            assert_eq!((&*request.reason, request.since_ms), ("restored", 7));
            let first = request.page_token.parse().unwrap_or(0);
            let next = all.min(first + usize::try_from(request.page_size).unwrap());
            let letter = |number: usize| DeadLetter { place: number.to_string(), ..DeadLetter::default() };
            let next_page_token = if next < all { next.to_string() } else { String::new() };
            Ok::<_, ()>(DeadLettersResponse { letters: (first..next).map(letter).collect(), next_page_token })
        };
        let request = DeadLettersRequest { reason: "restored".into(), since_ms: 7, ..DeadLettersRequest::default() };
        let number = |letter: &DeadLetter| letter.place.parse().unwrap();
        let found = block_on(find_dead_letters(request, limit, |letter| is_wanted(number(letter)), page)).unwrap();
        (found.letters.iter().map(number).collect(), found.next_page_token)
    }

    #[test]
    fn pages_are_read_until_the_limit_or_the_end() {
        assert_eq!(find(1_200, 2_000, |_| true), ((0..1_200).collect(), String::new()));
        assert_eq!(find(1_200, 700, |_| true), ((0..700).collect(), "700".to_owned()));
        assert_eq!(find(1_200, 1_200, |_| true), ((0..1_200).collect(), String::new()));
        assert_eq!(find(0, 10, |_| true), (vec![], String::new()));
    }

    #[test]
    fn pages_without_wanted_ones_are_passed_over() {
        assert_eq!(find(1_200, 1, |number| number == 1_100), (vec![1_100], "1101".to_owned()));
        assert_eq!(find(1_200, 5, |number| number % 600 == 599), (vec![599, 1_199], String::new()));
    }

    #[test]
    fn an_error_ends_the_search() {
        let failing = async |_: &DeadLettersRequest| Err("unavailable");
        let found = block_on(find_dead_letters(DeadLettersRequest::default(), 1, |_| true, failing));
        assert_eq!(found.err(), Some("unavailable"));
    }
}
