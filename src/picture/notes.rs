//! TIFF files: what stands beside the pixels (camera's notes, place, XMP, IPTC, resolution,
//! orientation), read and written field by field. Offsets in a file change when it is written again, so
//! fields are kept by their content, and directories within directories are followed.

use std::io::{Cursor, Seek, Write};

use tiff::decoder::{Decoder, Limits};
use tiff::encoder::colortype::{ColorType, Gray8, Gray16, RGB8, RGB16};
use tiff::encoder::{DirectoryEncoder, TiffEncoder, TiffKindStandard, TiffValue};
use tiff::tags::{ByteOrder, ExtraSamples, IfdPointer, Tag, Type, ValueBuffer};
use tiff::{Directory, TiffError};

use super::photo::{Photo, Samples};

/// A field of more bytes than this is not kept.
const FIELD_BYTES_MAX: usize = 16 << 20;
/// Pictures of a file that are looked at; more are too many in any case.
const PICTURES_MAX: usize = 64;
/// Directories within the picture's own (TIFF 6, Exif 2.32): the camera's notes, with a directory
/// of their own, and the place.
const EXIF: u16 = 0x8769;
const GPS: u16 = 0x8825;
const INTEROPERABILITY: u16 = 0xA005;
const WITHIN: [u16; 3] = [EXIF, GPS, INTEROPERABILITY];
/// Of the picture's own fields those that say something of the picture and not of how it is stored.
const DESCRIBING: [u16; 27] = [
    269, 270, 271, 272, 274, 282, 283, 285, 296, 305, 306, 315, 316, 318, 319, // TIFF 6
    700, 18_246, 18_249, 33_432, 33_723, 34_377, // XMP, ratings, copyright, IPTC, Photoshop
    34_675, // ICC
    40_091, 40_092, 40_093, 40_094,
    40_095, // Windows: title, comment, author, keywords, subject
];

/// What stands beside the pixels of a TIFF.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Notes {
    picture: Fields,
    /// Whether colours were multiplied by alpha.
    associated: bool,
}

/// A directory of fields.
#[derive(Debug, Clone, PartialEq, Default)]
struct Fields {
    values: Vec<Field>,
    /// By the tag that points to them.
    within: Vec<(u16, Fields)>,
}

/// A field, its content in this machine's byte order.
#[derive(Debug, Clone, PartialEq)]
struct Field {
    tag: u16,
    kind: Type,
    bytes: Vec<u8>,
}

impl Notes {
    /// Reads what can be read: it may be damaged where the pixels are not.
    pub fn read(bytes: &[u8]) -> Self {
        let Ok(decoder) = Decoder::new(Cursor::new(bytes)) else { return Self::default() };
        let mut limits = Limits::default();
        limits.ifd_value_size = FIELD_BYTES_MAX;
        limits.decoding_buffer_size = FIELD_BYTES_MAX;
        let mut decoder = decoder.with_limits(limits);
        let alpha = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).ok().flatten();
        let associated = alpha
            .is_some_and(|kinds| kinds.first() == Some(&ExtraSamples::AssociatedAlpha.to_u16()));
        let Some(place) = decoder.ifd_pointer() else { return Self::default() };
        let mut picture = Fields::read(&mut decoder, place, WITHIN.len());
        picture.values.retain(|field| DESCRIBING.contains(&field.tag));
        Self { picture, associated }
    }
}

impl Fields {
    fn read(decoder: &mut Decoder<Cursor<&[u8]>>, place: IfdPointer, depth_max: usize) -> Self {
        let mut found = Self::default();
        let Ok(directory) = decoder.read_directory(place) else { return found };
        for (tag, entry) in directory.iter() {
            let mut tags = decoder.read_directory_tags(&directory);
            if WITHIN.contains(&tag.to_u16()) {
                let place = tags.find_tag(tag).ok().flatten();
                let place = place.and_then(|value| value.into_ifd_pointer().ok());
                if let Some(place) = place.filter(|_| depth_max > 0) {
                    let within = Self::read(decoder, place, depth_max - 1);
                    found.within.push((tag.to_u16(), within));
                }
                continue;
            }
            let mut value = ValueBuffer::empty(entry.field_type());
            if let Ok(Some(_)) = tags.find_tag_buf(tag, &mut value) {
                value.set_byte_order(ByteOrder::native());
                let (kind, bytes) = (value.data_type(), value.as_bytes().to_vec());
                found.values.push(Field { tag: tag.to_u16(), kind, bytes });
            }
        }
        // An empty directory can't be written.
        found.within.retain(|(_, fields)| !fields.values.is_empty() || !fields.within.is_empty());
        found
    }

    /// Writes all fields into a directory, whose own directories are in the file already.
    fn put<W: Write + Seek>(
        &self,
        directory: &mut DirectoryEncoder<'_, W, TiffKindStandard>,
        within: &[(u16, u32)],
    ) -> Result<(), TiffError> {
        for field in &self.values {
            let entry = directory.write_entry_bytes(field.kind, &field.bytes)?;
            let tag = Tag::from_u16_exhaustive(field.tag);
            directory.extend_from(&Directory::from_iter([(tag, entry)]));
        }
        for &(tag, place) in within {
            directory.write_tag(Tag::from_u16_exhaustive(tag), place)?;
        }
        Ok(())
    }

    /// Writes the directories within this one. Returns where they are.
    fn put_within<W: Write + Seek>(
        &self,
        encoder: &mut TiffEncoder<W>,
    ) -> Result<Vec<(u16, u32)>, TiffError> {
        let mut places = Vec::new();
        for (tag, fields) in &self.within {
            let within = fields.put_within(encoder)?;
            let mut directory = encoder.extra_directory()?;
            fields.put(&mut directory, &within)?;
            places.push((*tag, directory.finish_with_offsets()?.offset));
        }
        Ok(places)
    }
}

/// Whether a file holds more than one picture, not counting smaller copies of the first.
pub(super) fn is_album(bytes: &[u8]) -> bool {
    const SMALLER_COPY: u32 = 1;
    let Ok(mut decoder) = Decoder::new(Cursor::new(bytes)) else { return false };
    for _ in 0..PICTURES_MAX {
        if !decoder.more_images() || decoder.next_image().is_err() {
            return false;
        }
        let kind = decoder.find_tag_unsigned::<u32>(Tag::NewSubfileType).ok().flatten();
        if kind.unwrap_or(0) & SMALLER_COPY == 0 {
            return true;
        }
    }
    true
}

/// A file of the photo with its notes.
pub(super) fn write(photo: &Photo, notes: &Notes) -> Result<Vec<u8>, TiffError> {
    match (&photo.samples, photo.channels) {
        (Samples::Eight(samples), 1 | 2) => pack::<Gray8>(photo, samples, notes),
        (Samples::Eight(samples), _) => pack::<RGB8>(photo, samples, notes),
        (Samples::Sixteen(samples), 1 | 2) => pack::<Gray16>(photo, samples, notes),
        (Samples::Sixteen(samples), _) => pack::<RGB16>(photo, samples, notes),
    }
}

fn pack<C: ColorType>(
    photo: &Photo,
    samples: &[C::Inner],
    notes: &Notes,
) -> Result<Vec<u8>, TiffError>
where
    [C::Inner]: TiffValue,
{
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file)?;
    let within = notes.picture.put_within(&mut encoder)?;
    let mut image = encoder.new_image::<C>(photo.width, photo.height)?;
    if photo.channels.is_multiple_of(2) {
        let kind = match notes.associated {
            true => ExtraSamples::AssociatedAlpha,
            false => ExtraSamples::UnassociatedAlpha,
        };
        image.extra_samples(&[kind])?;
    }
    notes.picture.put(image.encoder(), &within)?;
    image.write_data(samples)?;
    Ok(file.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field by its path: the tags of the directories, then its own.
    fn field<'a>(fields: &'a Fields, path: &[u16]) -> Option<&'a [u8]> {
        match path {
            [tag] => {
                let found = fields.values.iter().find(|field| field.tag == *tag);
                found.map(|field| field.bytes.as_slice())
            }
            [first, rest @ ..] => {
                let (_, within) = fields.within.iter().find(|(tag, _)| tag == first)?;
                field(within, rest)
            }
            [] => None,
        }
    }

    fn photo(bytes: &[u8]) -> Photo {
        Photo::read(bytes, None).unwrap()
    }

    #[test]
    fn notes_of_another_program_in_either_byte_order_are_kept_field_by_field() {
        for bytes in [
            &include_bytes!("../../tests/data/photos/notes.tif")[..],
            include_bytes!("../../tests/data/photos/notes-big-endian.tif"),
        ] {
            let before = Notes::read(bytes);
            let kept = |path: &[u16]| field(&before.picture, path).map(<[u8]>::to_vec);
            assert_eq!(kept(&[271]).unwrap(), b"Hearken test camera\0");
            assert_eq!(kept(&[274]).unwrap(), 6_u16.to_ne_bytes());
            // Exposure time 1/250 s; the place's latitude, 48 degrees 51 minutes 30 seconds.
            let numbers = |values: &[u32]| -> Vec<u8> {
                values.iter().flat_map(|value| value.to_ne_bytes()).collect()
            };
            assert_eq!(kept(&[EXIF, 33_434]).unwrap(), numbers(&[1, 250]));
            assert_eq!(kept(&[GPS, 2]).unwrap(), numbers(&[48, 1, 51, 1, 30, 1]));
            assert_eq!(kept(&[EXIF, INTEROPERABILITY, 1]).unwrap(), b"R98\0");
            assert!(kept(&[700]).unwrap().starts_with(b"<x:xmpmeta"));
            // How the picture is stored is the writer's affair.
            assert_eq!(kept(&[273]), None);
            let written = photo(bytes).write(0).unwrap();
            assert_eq!(Notes::read(&written), before);
            let (before, after) = (photo(bytes), photo(&written));
            assert_eq!(before, after);
        }
    }

    #[test]
    fn alpha_is_written_as_what_it_was() {
        let mut alpha = photo(include_bytes!("../../tests/data/photos/notes.tif"));
        alpha.channels = 4;
        let count = alpha.width as usize * alpha.height as usize * 4;
        alpha.samples = Samples::Sixteen((0..count).map(|n| n as u16).collect());
        let written = alpha.write(0).unwrap();
        assert!(!Notes::read(&written).associated);
        assert_eq!(photo(&written), alpha);
        let notes = Notes { associated: true, ..Notes::default() };
        assert!(Notes::read(&write(&alpha, &notes).unwrap()).associated);
    }

    #[test]
    fn several_pictures_are_an_album_and_a_smaller_copy_is_none() {
        let written = |second: Option<u32>| {
            let mut file = Cursor::new(Vec::new());
            let mut encoder = TiffEncoder::new(&mut file).unwrap();
            encoder.write_image::<Gray8>(1, 1, &[1]).unwrap();
            if let Some(kind) = second {
                let mut image = encoder.new_image::<Gray8>(1, 1).unwrap();
                image.encoder().write_tag(Tag::NewSubfileType, kind).unwrap();
                image.write_data(&[2]).unwrap();
            }
            file.into_inner()
        };
        assert!(!is_album(&written(None)));
        assert!(is_album(&written(Some(0))) && is_album(&written(Some(2))));
        assert!(!is_album(&written(Some(1))));
        assert!(!is_album(b"no TIFF"));
    }
}
