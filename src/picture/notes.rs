//! TIFF files: what stands beside the pixels (camera's notes, place, XMP, IPTC, resolution,
//! orientation), read and written field by field. Offsets in a file change when it is written again, so
//! fields are kept by their content, and directories within directories are followed. A maker's own
//! note is kept as it is, too, though some makers' point to places in the file.

use std::io::{Cursor, Seek, Write};

use tiff::decoder::{Decoder, Limits};
use tiff::encoder::colortype::{ColorType, Gray8, Gray16, RGB8, RGB16};
use tiff::encoder::{DirectoryEncoder, TiffEncoder, TiffKindStandard, TiffValue};
use tiff::tags::{ByteOrder, ExtraSamples, IfdPointer, ResolutionUnit, Tag, Type, ValueBuffer};
use tiff::{Directory, TiffError};

use super::photo::{Photo, Samples};

/// More than this is not kept beside a picture.
const NOTES_BYTES_MAX: usize = 64 << 20;
/// Bytes of a field that lie in the directory itself.
const INLINE_BYTES: usize = 4;
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
    /// Channels beside the colours.
    pub extra_samples: usize,
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
    /// Reads what can be read: it may be damaged where the pixels are not. However many fields point
    /// at the same bytes, no more is read than the file has.
    pub fn read(bytes: &[u8]) -> Self {
        let Ok(decoder) = Decoder::new(Cursor::new(bytes)) else { return Self::default() };
        let mut limits = Limits::default();
        limits.ifd_value_size = NOTES_BYTES_MAX;
        limits.decoding_buffer_size = NOTES_BYTES_MAX;
        let mut decoder = decoder.with_limits(limits);
        let alpha = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).ok().flatten();
        let alpha = alpha.unwrap_or_default();
        let associated = alpha.first() == Some(&ExtraSamples::AssociatedAlpha.to_u16());
        let Some(place) = decoder.ifd_pointer() else { return Self::default() };
        let mut reader = Reader { decoder, bytes_left: bytes.len().min(NOTES_BYTES_MAX) };
        let mut picture = reader.fields(place, WITHIN.len(), |tag| DESCRIBING.contains(&tag));
        picture.name_unit();
        Self { picture, associated, extra_samples: alpha.len() }
    }
}

/// Reads directories, up to a limit.
struct Reader<'a> {
    decoder: Decoder<Cursor<&'a [u8]>>,
    bytes_left: usize,
}

impl Reader<'_> {
    /// The wanted fields of a directory, and the directories within it.
    fn fields(
        &mut self,
        place: IfdPointer,
        depth_max: usize,
        is_wanted: fn(u16) -> bool,
    ) -> Fields {
        let mut found = Fields::default();
        let Ok(directory) = self.decoder.read_directory(place) else { return found };
        for (tag, entry) in directory.iter() {
            let number = tag.to_u16();
            if WITHIN.contains(&number) {
                let value = self.decoder.read_directory_tags(&directory).find_tag(tag);
                let place = value.ok().flatten().and_then(|value| value.into_u64().ok());
                if let Some(place) = place.filter(|_| depth_max > 0) {
                    let within = self.fields(IfdPointer(place), depth_max - 1, |_| true);
                    found.within.push((number, within));
                }
                continue;
            }
            let size = size(entry.field_type(), entry.count());
            let Some(size) = size.filter(|size| is_wanted(number) && *size <= self.bytes_left)
            else {
                continue;
            };
            self.bytes_left -= size;
            let mut value = ValueBuffer::empty(entry.field_type());
            let mut tags = self.decoder.read_directory_tags(&directory);
            if let Ok(Some(_)) = tags.find_tag_buf(tag, &mut value) {
                value.set_byte_order(ByteOrder::native());
                let (kind, bytes) = (value.data_type(), value.as_bytes().to_vec());
                found.values.push(Field { tag: number, kind, bytes });
            }
        }
        // An empty directory can't be written.
        found.within.retain(|(_, fields)| !fields.values.is_empty() || !fields.within.is_empty());
        found
    }
}

/// Bytes of a field; `None` for kinds that only point somewhere, or that a TIFF of 4 GiB at most
/// does not have.
fn size(kind: Type, count: u64) -> Option<usize> {
    let each = match kind {
        Type::BYTE | Type::ASCII | Type::SBYTE | Type::UNDEFINED => 1,
        Type::SHORT | Type::SSHORT => 2,
        Type::LONG | Type::SLONG | Type::FLOAT => 4,
        Type::RATIONAL | Type::SRATIONAL | Type::DOUBLE => 8,
        _ => return None,
    };
    usize::try_from(count).ok()?.checked_mul(each)
}

impl Fields {
    /// A resolution without a unit is by the inch, where the writer would say that it has none.
    fn name_unit(&mut self) {
        let has = |tag: Tag| self.values.iter().any(|field| field.tag == tag.to_u16());
        if has(Tag::XResolution) && !has(Tag::ResolutionUnit) {
            let bytes = ResolutionUnit::Inch.to_u16().to_ne_bytes().to_vec();
            let tag = Tag::ResolutionUnit.to_u16();
            self.values.push(Field { tag, kind: Type::SHORT, bytes });
        }
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
            if field.bytes.len() > INLINE_BYTES && field.bytes.len() % 2 == 1 {
                // What comes next begins at an even place.
                directory.write_data(0_u8)?;
            }
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
    let mut place = decoder.ifd_pointer();
    for number in 0..PICTURES_MAX {
        // A broken link ends the row, as its end does.
        let Some(directory) = place.and_then(|place| decoder.read_directory(place).ok()) else {
            return false;
        };
        let mut tags = decoder.read_directory_tags(&directory);
        let kind = tags.find_tag_unsigned::<u32>(Tag::NewSubfileType).ok().flatten();
        if number > 0 && kind.unwrap_or(0) & SMALLER_COPY == 0 {
            return true;
        }
        place = directory.next();
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
        let read = photo(&written);
        assert_eq!((read.channels, read.samples), (alpha.channels, alpha.samples.clone()));
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
        // A second page that can't be decoded is a page all the same.
        let mut strange = written(Some(0));
        let photometric = 262_u16.to_ne_bytes();
        let at = strange.windows(2).rposition(|window| window == photometric).unwrap();
        strange[at + 8..at + 10].copy_from_slice(&999_u16.to_ne_bytes());
        assert!(is_album(&strange));
    }

    #[test]
    fn many_fields_at_one_place_take_no_more_than_the_file_has() {
        // 2,000 fields of the camera's notes, each the same 60 kB.
        let mut file = b"II*\0\x08\0\0\0".to_vec();
        let field = |tag: u16, kind: u16, count: u32, value: u32| {
            let mut bytes = [tag.to_le_bytes(), kind.to_le_bytes()].concat();
            bytes.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
            bytes
        };
        let camera_at = 8 + 2 + 10 * 12 + 4;
        let data_at = camera_at + 2 + 2_000 * 12 + 4;
        file.extend(10_u16.to_le_bytes());
        for (tag, value) in [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 0)] {
            file.extend(field(tag, 3, 1, value));
        }
        for (tag, value) in [(277, 1), (278, 1), (279, 1)] {
            file.extend(field(tag, 3, 1, value));
        }
        file.extend(field(EXIF, 4, 1, camera_at));
        file.extend(0_u32.to_le_bytes());
        file.extend(2_000_u16.to_le_bytes());
        (0..2_000).for_each(|n| file.extend(field(50_000 + n, 7, 60_000, data_at)));
        file.extend(0_u32.to_le_bytes());
        file.resize(file.len() + 60_000, 7);
        let notes = Notes::read(&file);
        let (_, camera) = &notes.picture.within[0];
        assert_eq!(camera.values.len(), 1, "a second one would be more than the file");
    }
}
