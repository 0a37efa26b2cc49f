//! The courier's job: what was put in comes out, and a job that was cut off or added to is none.
#![no_main]

use std::time::Duration;

use install_record::courier::job::{Job, Parcel};
use install_record::courier::success::{Expected, Success};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

fn success(u: &mut Unstructured<'_>) -> Result<Success> {
    let expected = |(is_true, pointer): (bool, String)| match is_true {
        true => Expected::True(pointer),
        false => Expected::Absent(pointer),
    };
    // No server answers 0, which stands for none.
    let status = u.arbitrary::<Option<u16>>()?.filter(|status| *status > 0);
    Ok(Success { status, any: u.arbitrary_iter()?.map(|it| it.map(expected)).collect::<Result<_>>()? })
}

fn job(u: &mut Unstructured<'_>) -> Result<Job> {
    Ok(Job {
        connect_timeout: Duration::from_millis(u.arbitrary::<u32>()?.into()),
        user_agent: u.arbitrary()?,
        proxy: u.arbitrary()?,
        no_proxy: u.arbitrary()?,
        certificates_file: u.arbitrary()?,
        certificates_directory: u.arbitrary()?,
        success: success(u)?,
        parcels: u
            .arbitrary_iter::<(String, Vec<(String, String)>, Vec<u8>)>()?
            .map(|parcel| parcel.map(|(url, headers, body)| Parcel { url, headers, body }))
            .collect::<Result<_>>()?,
    })
}

fuzz_target!(|data: &[u8]| {
    // As bytes that somebody else put together. What cannot be meant, such as a text that is no UTF-8, is repaired once.
    if let Some(job) = Job::decode(data) {
        assert_eq!(Job::decode(&job.encode()), Some(job));
    }

    // As a job.
    let mut u = Unstructured::new(data);
    let Ok(job) = job(&mut u) else { return };
    let bytes = job.encode();
    assert_eq!(Job::decode(&bytes).as_ref(), Some(&job));
    let cut = u.choose_index(bytes.len()).unwrap_or(0);
    assert_eq!(Job::decode(&bytes[..cut]), None);
    assert_eq!(Job::decode(&[&bytes[..], &[0]].concat()), None);
});
