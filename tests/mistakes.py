"""How each mistake of docs/bad-input.md is made: a function of a folder, which gives the command line.

The folder holds `survey.fits`, and `run`, a finished run on it.
"""

import bz2
import os
import shutil

import numpy as np
import spheres
import spreads
import zarr
from astropy import units as u
from astropy.io import fits
from astropy.nddata import NDData
from astropy.table import Table
from skies import poisson_sky, sky_header, write_survey

from cwt_dask.cli.commands import main
from cwt_dask.storage.sealed import sealed

SHAPE = (45, 50)
KERNELS = ("--n-scale=1", "--min-scale=1.2", "--step-scale=1.5", "--max-iter=2")
RUN = ("run", "survey.fits", "a/out", "--workers=0", *KERNELS)
OUT = ("run", "survey.fits", "out", *KERNELS)
FINISHED = ("run", "survey.fits", "run", "--workers=0", *KERNELS)
STORE = ("plan", "run/survey.zarr", *KERNELS)
# With what is added while it is written it is too long for a file system.
LONG = "x" * 249

RECIPES = {}


def recipe(what):
    def register(make):
        RECIPES[what] = make
        return make

    return register


def typed(what, *arguments):
    """It is in the command line alone."""
    RECIPES[what] = lambda _: arguments


# --- point spread functions -------------------------------------------------------------------------------------------


def psf(what, make, hdu=""):
    """It is in psf.fits: in its HDUs."""

    @recipe(what)
    def _(folder):
        spreads.write(folder / "psf.fits", *make())
        return *RUN, f"--psf=psf.fits{hdu}"


def psf_image(what, change, **cards):
    """It is in the image of psf.fits, or in its header."""

    def make():
        y, x = np.mgrid[-5:6, -5:6]
        hdu = fits.ImageHDU(change(np.exp(-(x**2 + y**2) / 4.5)), sky_header((11, 11)), "KERNEL")
        hdu.header.update(cards)
        return [hdu]

    psf(what, make)


typed("a width below zero", *RUN, "--psf=-1.2")
typed("a width of zero", *RUN, "--psf=0deg")
typed("a width that is NaN", *RUN, "--psf=nan")
typed("a width in another unit", *RUN, "--psf=0.1parsec")
typed("a file that does not exist", *RUN, "--psf=psf.fits")
typed("a file of another kind", *RUN, "--psf=survey.fits")
typed("a file without such an HDU", *RUN, "--psf=survey.fits[PSF]")
typed("an extent besides a number of scales", *RUN, "--psf=1.2", "--max-extent=5")
psf_image("an image with negative pixels", lambda image: image - 0.1)
psf_image("an image with NaN", lambda image: np.where(image == 1, np.nan, image))
psf_image("an image of zeros", np.zeros_like)
psf_image("an image that is not centred", lambda image: np.roll(image, 1, axis=1))
psf_image("an image with an even number of pixels", lambda image: image[:-1])
psf_image("an image that is wider than the map", lambda image: np.pad(image, 20))
psf_image("an image with pixels of another size", lambda image: image, CDELT1=-0.02, CDELT2=0.02)
psf_image("images by energy without energies", lambda image: np.stack([image, image]))
psf("radii in another unit", lambda: [spreads.psf_table(RAD_LO="m")])
psf("energies in another unit", lambda: [spreads.psf_table(ENERG_HI="s")])
psf("radii that do not rise", lambda: spreads.gtpsf([1e4, 1e5], [0.1, 0.1], backwards=True))
psf("energies that do not rise", lambda: spreads.gtpsf([1e5, 1e4], [0.1, 0.1]))
psf("no radii", lambda: spreads.gtpsf([1e4, 1e5], [0.1, 0.1])[:1])
psf("several in one file", lambda: [spreads.psf_table(), spreads.psf_king()])
psf("a table without rows", lambda: [spreads.without_rows(spreads.psf_table())])
psf("a table without a column", lambda: [spreads.without(spreads.psf_table(), "RAD_HI")])
psf(
    "an effective area without rows",
    lambda: [spreads.psf_table(), spreads.without_rows(spreads.effective_area([1, 1, 1, 1]))],
)
psf("numbers along one axis", lambda: [fits.ImageHDU(np.ones(5))])
psf("a table that holds zeros", lambda: [spreads.psf_table(density=0.0)])
psf("a table with negative values", lambda: [spreads.psf_table(density=-1.0)])
psf("an HDU that holds something else", lambda: [spreads.effective_area([1, 1, 1, 1])], "[EFFECTIVE AREA]")


@recipe("energies that are not the survey's")
def _(folder):
    planes = {"COUNTS": np.ones((2, *SHAPE)), "BACKGROUND": np.ones((2, *SHAPE))}
    images = [fits.ImageHDU(plane, sky_header(SHAPE), name) for name, plane in planes.items()]
    bands = fits.BinTableHDU(
        Table({"E_MIN": [50, 90], "E_MAX": [90, 200]}, units=dict.fromkeys(("E_MIN", "E_MAX"), "TeV"))
    )
    tables = [fits.BinTableHDU(bands.data, bands.header, f"{name}_BANDS") for name in planes]
    fits.HDUList([fits.PrimaryHDU(), *images, *tables]).writeto(folder / "survey.fits", overwrite=True)
    spreads.write(folder / "psf.fits", spreads.psf_table())
    return *RUN, "--psf=psf.fits", "--emin=90TeV"


@recipe("a file that breaks off")
def _(folder):
    spreads.write(folder / "psf.fits", spreads.psf_table())
    os.truncate(folder / "psf.fits", 11520)
    return *RUN, "--psf=psf.fits"


# --- survey files -----------------------------------------------------------------------------------------------------


def survey(what, *options, counts=None, background=None, **cards):
    """It is in survey.fits: other planes, or other cards in the header of the counts."""

    @recipe(what)
    def _(folder):
        sky = poisson_sky(SHAPE, seed=3)
        planes = {
            "COUNTS": sky[0] if counts is None else counts,
            "BACKGROUND": sky[1] if background is None else background,
        }
        hdus = [fits.ImageHDU(plane, sky_header(SHAPE), name) for name, plane in planes.items()]
        hdus[0].header.update(cards)
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folder / "survey.fits", overwrite=True)
        return *RUN, *options


def pixel(what, plane, value):
    planes = dict(zip(("counts", "background"), poisson_sky(SHAPE, seed=3), strict=True))
    planes[plane] = planes[plane].astype(float)
    planes[plane][7, 20] = value
    survey(what, **planes)


def header(what, old, new):
    """It is in the bytes of the header of the counts."""

    @recipe(what)
    def _(folder):
        content = (folder / "survey.fits").read_bytes()
        place = content.index(old, content.index(b"XTENSION"))
        (folder / "survey.fits").write_bytes(content[:place] + new.ljust(len(old)) + content[place + len(old) :])
        return RUN


def text(what, name, content, *arguments):
    """It is in a file of text."""

    @recipe(what)
    def _(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
        return arguments


typed("the survey does not exist", "run", "absent.fits", "a/out")
typed("the survey is a directory", "run", ".", "a/out")
typed("a file of the mask that does not exist", *RUN, "--mask=absent.fits")


@recipe("the survey is a pipe")
def _(_):
    return "run", f"/dev/fd/{os.pipe()[0]}", *RUN[2:]


@recipe("a link to itself")
def _(folder):
    (folder / "circle.fits").symlink_to("circle.fits")
    return "run", "circle.fits", *RUN[2:]


text("it is empty", "survey.fits", "", *RUN)
text("it is not in the checkout of a repository", "survey.fits", "version https://git-lfs.github.com/spec/v1\n", *RUN)
text("it is no FITS file", "survey.fits", "counts,background\n1,2\n", *RUN)
header("a header has no end", b"END".ljust(80), b"")
header("a header says more than the file holds", b"NAXIS1  =                   50", b"NAXIS1  = 1000000000")
header("a header has other bytes than text", b"GLON-CAR", b"GL\xd6N-CAR")
header("a header has a number type that does not exist", b"BITPIX  =                   64", b"BITPIX  = 7")
header("a header counts what cannot be", b"NAXIS   =                    2", b"NAXIS   = 1000000000")
CRVAL1 = b"CRVAL1  =                 10.0"
header("a number of the WCS is NaN", CRVAL1, b"CRVAL1  = NaN")
header("a number of the WCS is a text", CRVAL1, b"CRVAL1  = 'oops'")
header("a number of the WCS cannot be read", CRVAL1, b"CRVAL1  = 184.5e")
header("a number of the WCS is infinite", CRVAL1, b"CRVAL1  = 1e400")
header("a number of the WCS is absurdly large", CRVAL1, b"CRVAL1  = 1e300")
pixel("counts are negative", "counts", -3)
pixel("background is negative", "background", -0.1)
pixel("counts are infinite", "counts", np.inf)
survey("all pixels are NaN", background=np.full(SHAPE, np.nan))
survey("images have different shapes", background=np.ones((44, 50)))
survey("a map too long for a row of it to be held", counts=np.ones((1, 2**22 + 1), np.uint8))


def packed(what, shape, **cards):
    """It is in the cards with which tiles of the counts are described."""

    @recipe(what)
    def _(folder):
        counts = np.arange(2**15, dtype=np.int32).reshape(128, 256)
        tiles = fits.CompImageHDU(counts, sky_header(SHAPE), "COUNTS", compression_type="NOCOMPRESS")
        fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(folder / "survey.fits", overwrite=True)
        with fits.open(folder / "survey.fits", mode="update", disable_image_compression=True) as hdus:
            hdus[1].header.update({"ZNAXIS2": shape[0], "ZNAXIS1": shape[1], **cards})
        return RUN


packed("tiles too large to be unpacked", (12000, 12000), ZTILE1=12000, ZTILE2=12000)
packed("compressed tiles without pixels", SHAPE, ZTILE1=50, ZTILE2=0)
survey(
    "energy is the first axis",
    counts=np.ones((*SHAPE, 3)),
    CTYPE1="ENERGY",
    CTYPE2="GLON-CAR",
    CTYPE3="GLAT-CAR",
)
CUBES = {"counts": np.ones((3, *SHAPE)), "background": np.ones((3, *SHAPE))}
survey("a cube, and no plane chosen", **CUBES)
survey("a plane that a cube does not have", "--band=3", **CUBES)
survey("all stored values are scaled by 0", BSCALE=0)
survey("a scale that is no number", BSCALE="one")
survey("a coordinate system of too many axes", WCSAXES=10**9)
survey("no sky coordinates", CTYPE1="X", CTYPE2="Y")
survey("sky coordinates that make no sense", CTYPE1="GLON-QQQ", CTYPE2="GLAT-QQQ")
survey("a reference system of no known name", CTYPE1="RA---CAR", CTYPE2="DEC--CAR", RADESYS="GAPPT")
survey("coordinates that astropy has no frame for", CTYPE1="ELON-CAR", CTYPE2="ELAT-CAR")
survey("pixels without a size", CDELT1=-1e-30, CDELT2=1e-30)
survey("counts and background show different sky", CRVAL1=11.0)
typed("no HDU of that name", *RUN, "--counts-hdu=N_ON")
typed("a mask's file without such an HDU", *RUN, "--mask=survey.fits[9]")
typed("a plane chosen of a single image", *RUN, "--band=1")
typed("a band that is no number", *RUN, "--band=first")


@recipe("it is compressed in another way")
def _(folder):
    (folder / "survey.fits").write_bytes(bz2.compress(b"SIMPLE"))
    return RUN


@recipe("a block is not filled up before another HDU")
def _(folder):
    content = (folder / "survey.fits").read_bytes()
    place = content.rindex(b"XTENSION")
    (folder / "survey.fits").write_bytes(content[: place - 1000] + content[place:])
    return RUN


@recipe("the file breaks off")
def _(folder):
    os.truncate(folder / "survey.fits", 20_000)
    return RUN


def table(what, name, *options, alone="", **cards):
    """It is a table, besides the images or alone in a file."""

    @recipe(what)
    def _(folder):
        hdu = fits.BinTableHDU(Table({"a": [1]}), fits.Header(cards), name=name)
        if alone:
            fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(folder / alone)
            return "run", alone, *RUN[2:]
        fits.append(folder / "survey.fits", hdu.data, hdu.header)
        return *RUN, *options


table("a table where an image is needed", "RATES", "--counts-hdu=RATES")
table("an event list where an image is needed", "EVENTS", "--counts-hdu=EVENTS")
table("an event list alone", "EVENTS", alone="events.fits")
table("an index of event lists alone", "HDU_INDEX", alone="hdu-index.fits")
table("a file without any image", "RATES", alone="sky.fits")


def sphere(what, change=lambda _counts, _background: None, options=(), **cards):
    """It is in a map of the sphere, of some of its pixels, or in the background beside it."""

    @recipe(what)
    def _(folder):
        values = np.full(12 * 8**2, 3.0)
        counts = spheres.table("COUNTS", values, 8, pixels=[1, 2, 3], **cards)
        background = spheres.table("BACKGROUND", values, 8)
        counts, background = change(counts, background) or (counts, background)
        spheres.write(folder / "sky.fits", counts, background)
        return "run", "sky.fits", *RUN[2:], *options


def at_first_pixel(column, value):
    return lambda counts, _: counts.data[column].__setitem__(0, value)


def two_rows_without_numbers(counts, background):
    return fits.BinTableHDU.from_columns(counts.columns[1:], counts.header, nrows=2), background


sphere("a pixel beyond the sky", at_first_pixel("PIX", 768))
sphere("a pixel that comes twice", at_first_pixel("PIX", 2))
sphere("an nside that is no power of two", NSIDE=12)
sphere("an nside that is none", NSIDE="many")
sphere("an nside beyond all numbers", NSIDE=2**25)
sphere("an nside so fine that no plan fits", NSIDE=2**16)
sphere("finer pixels than the counts have", options=("--nside=16",))
sphere("no ordering", ORDERING=None)
sphere("another frame than galactic and equatorial", COORDSYS="E")
sphere("no frame", COORDSYS=None)
sphere("a frame, and the file says another", options=("--frame=icrs",))


@recipe("a sky with fewer pixels than facets")
def _(folder):
    hdus = (spheres.table(name, np.ones(12 * 2**2), 2) for name in ("COUNTS", "BACKGROUND"))
    return RUN[0], str(spheres.write(folder / "sky.fits", *hdus).name), *RUN[2:]


sphere("a map of the sphere, taken to a sphere", options=("--sphere",))
sphere("pixels by local numbers, and no region", INDXSCHM="LOCAL")
sphere("pixels by local numbers of all that a circle touches", INDXSCHM="LOCAL", HPX_REG="DISK_INC(45,2,6,4)")
sphere("other rows than the region of a map has", two_rows_without_numbers, INDXSCHM="LOCAL", HPX_REG="DISK(45,2,6)")
sphere("a pixel beyond the region of a map", INDXSCHM="LOCAL", HPX_REG="DISK(45,2,6)")
sphere("a region that is read in two ways", INDXSCHM="LOCAL", HPX_REG="HPX_PIXEL(NESTED,2,3)")
sphere("other pixels than a whole sky has", lambda _, background: background.header.__setitem__("NSIDE", 16))
sphere("a map of the sphere of other frame", lambda _, background: background.header.__setitem__("COORDSYS", "CEL"))
sphere("negative counts on the sphere", at_first_pixel("CHANNEL1", -1.0))
sphere("a map of the sphere without pixels", lambda c, b: (fits.BinTableHDU(c.data[:0], c.header), b))
sphere("a map of the sphere beside an image", lambda c, _: (c, fits.ImageHDU(np.ones((96, 8)), name="BACKGROUND")))


sphere("maps of the whole sky where events are needed", options=["--allsky"])

typed("a frame for an image", *RUN, "--frame=gal")


@recipe("other rows than the bands have")
def _(folder):
    counts = spheres.table("COUNTS", np.ones(12 * 8**2), 8, pixels=[1, 2, 3], INDXSCHM="SPARSE", columns="VALUE")
    counts.columns.change_name("VALUE1", "VALUE")
    bands = fits.BinTableHDU(Table({"NPIX": [2, 2]}), name="BANDS")
    spheres.write(folder / "sky.fits", counts, bands, spheres.table("BACKGROUND", np.ones(12 * 8**2), 8))
    return "run", "sky.fits", *RUN[2:]


@recipe("a map of the sphere that breaks off")
def _(folder):
    RECIPES["negative counts on the sphere"](folder)
    os.truncate(folder / "sky.fits", (folder / "sky.fits").stat().st_size - 5000)
    return "run", "sky.fits", *RUN[2:]


@recipe("the background of a sphere, estimated")
def _(folder):
    values = np.random.default_rng(1).poisson(3.0, 12 * 8**2)
    spheres.write(folder / "counts.fits", spheres.table("COUNTS", values, 8))
    return "run", "counts.fits", *RUN[2:], "--background=estimate", "--background-scale=2"


@recipe("the background of events on a sphere, estimated")
def _(folder):
    write_events(folder / "events.fits", CRAB)
    sky = "--allsky", "--nside=8", "--background=estimate", "--background-scale=2"
    return "run", "events.fits", *RUN[2:], *sky


@recipe("the whole map of a sphere")
def _(folder):
    values = np.random.default_rng(1).poisson(3.0, 12 * 8**2)
    hdus = [spheres.table(name, values, 8, pixels=[1, 2, 3]) for name in ("COUNTS", "BACKGROUND")]
    main([*RUN[:1], str(spheres.write(folder / "sky.fits", *hdus)), str(folder / "sky"), *RUN[3:]])
    return "verify", "sky", "--against-whole"


def another(what, name, plane, *options, **columns):
    """It is in another image of the survey, or in a table beside it."""

    @recipe(what)
    def _(folder):
        if columns:
            fits.append(folder / "survey.fits", Table(columns).as_array(), fits.Header({"EXTNAME": name}))
            with fits.open(folder / "survey.fits", mode="update") as hdus:
                for each in ("COUNTS", "BACKGROUND"):
                    hdus[each].data = np.stack([hdus[each].data] * plane)
        else:
            fits.append(folder / "survey.fits", plane, fits.Header({"EXTNAME": name}))
        return *RUN, *options


EXPOSURES = np.ones((50, *SHAPE))
another("an exposure that does not fit, and was asked for", "EXPOSURE", EXPOSURES, "--exposure-hdu=EXPOSURE")
another("a mask that leaves no pixel, and that nobody asked for", "MASK", np.zeros(SHAPE, np.uint8))
another("planes with pixels of their own", "COUNTS_BANDS", 2, "--band=sum", NPIX=[[50, 45], [25, 22]])
typed("an exposure that is not there", *RUN, "--exposure-hdu=NOPE")


@recipe("no background")
def _(folder):
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones(SHAPE), sky_header(SHAPE), "COUNTS")]).writeto(
        folder / "counts.fits"
    )
    return "run", "counts.fits", *RUN[2:]


@recipe("two images, and no name says which")
def _(folder):
    hdus = [fits.ImageHDU(np.ones(SHAPE), name=name) for name in ("ON", "OFF")]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folder / "both.fits")
    return *RUN, "--background=both.fits"


@recipe("two images of one name")
def _(folder):
    fits.append(folder / "survey.fits", np.ones(SHAPE), fits.Header({"EXTNAME": "counts"}))
    return RUN


EDGES = np.array([10.0, 100.0, 1000.0])


def bands(what, *options, exposure=None, unit="", model=None, true=EDGES, spectrum=None, table=""):
    """It is in a survey of two bands with energies, or in how they are chosen."""

    @recipe(what)
    def _(folder):
        hdus = [fits.PrimaryHDU(np.ones((2, *SHAPE)), sky_header(SHAPE))]
        hdus.append(fits.BinTableHDU(Table({"E_MIN": EDGES[:-1] * u.GeV, "E_MAX": EDGES[1:] * u.GeV}), name="EBOUNDS"))
        planes = {name: np.ones((2 if name != model else 3, *SHAPE)) for name in ("background", "isodiff", "galdiff")}
        hdus += [fits.ImageHDU(pixels, name=name) for name, pixels in planes.items()]
        if exposure is not None:
            hdus.append(fits.ImageHDU(exposure, name="EXPOSURE"))
            hdus[-1].header.update({"BUNIT": unit} if unit else {})
            energies = {"ENERGY_TRUE_MIN": true[:-1] * u.GeV, "ENERGY_TRUE_MAX": true[1:] * u.GeV}
            hdus.append(fits.BinTableHDU(Table(energies), name="EXPOSURE_BANDS"))
        fits.HDUList(hdus).writeto(folder / "cube.fits")
        if spectrum is not None:
            source = f'<source name="galdiff">{spectrum}</source>'
            (folder / "model.xml").write_text(f"<source_library>{source}</source_library>")
            (folder / "iso.txt").write_text(table)
        return "run", "cube.fits", *RUN[2:], "--counts-hdu=0", *options


survey("bands by energy where none is known", "--emin=10GeV", **CUBES)
bands("bands with energies, and none chosen")
bands("no band of such energies", "--emin=20GeV", "--emax=900GeV")
bands(
    "an exposure of other energies",
    "--emin=10GeV",
    "--exposure-hdu=EXPOSURE",
    exposure=np.ones((2, *SHAPE)),
    true=np.array([100.0, 300.0, 1000.0]),
)
bands(
    "an exposure of too few energies",
    "--emin=10GeV",
    "--exposure-hdu=EXPOSURE",
    exposure=np.ones((3, *SHAPE)),
    true=np.array([20.0, 50.0, 200.0, 2000.0]),
)
bands(
    "another unit of exposure than the file has",
    "--band=sum",
    "--exposure-unit=m2 s",
    exposure=np.ones((2, *SHAPE)),
    unit="cm2 s",
)
bands("a component of the background that is not there", "--band=sum", "--background=cube.fits[galdiff,iso]")
bands("maps of gtsrcmaps as background", "--band=sum", "--background=cube.fits[galdiff,isodiff]", model="galdiff")
MAPS = ("--band=sum", "--background=cube.fits[galdiff]", "--source-model=model.xml")
CONSTANT = '<spectrum type="ConstantValue"><parameter name="Value" value="{}"/></spectrum>'
BY_FILE = '<spectrum type="FileFunction" file="{}"><parameter name="Normalization" value="1" scale="1"/></spectrum>'
bands("a source model that is not there", *MAPS, model="galdiff")
bands("a source model, and no map of gtsrcmaps", *MAPS, spectrum=CONSTANT.format(1))
bands(
    "a map that the source model lacks",
    *MAPS[:1],
    "--background=cube.fits[isodiff]",
    MAPS[2],
    model="isodiff",
    spectrum="",
)
bands("a source model that is no XML", *MAPS, model="galdiff", spectrum="<spectrum>")
bands("a source without a spectrum", *MAPS, model="galdiff", spectrum="")
bands("a source that is there twice", *MAPS, model="galdiff", spectrum='</source><source name="galdiff">')
bands("a spectrum of an unknown type", *MAPS, model="galdiff", spectrum='<spectrum type="BandFunction"/>')
bands("a spectrum that lacks a parameter", *MAPS, model="galdiff", spectrum='<spectrum type="ConstantValue"/>')
bands("a parameter that is no number", *MAPS, model="galdiff", spectrum=CONSTANT.format("one"))
bands("a spectrum below 0", *MAPS, model="galdiff", spectrum=CONSTANT.format(-1))
bands("a spectrum in a file that is not there", *MAPS, model="galdiff", spectrum=BY_FILE.format("iso_v1.txt"))
bands(
    "a spectrum in a file of other rows", *MAPS, model="galdiff", spectrum=BY_FILE.format("iso.txt"), table="E dN/dE\n"
)
bands(
    "a spectrum in a file of too few energies",
    *MAPS,
    model="galdiff",
    spectrum=BY_FILE.format("iso.txt"),
    table="100 1e-3\n8e5 1e-9\n",
)


@recipe("a source model with a document type")
def _(folder):
    (folder / "model.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><source_library>&b;</source_library>')
    return *RUN, "--source-model=model.xml"


@recipe("maps of gtsrcmaps of other energies")
def _(folder):
    words = RECIPES["a spectrum below 0"](folder)
    shutil.copy(folder / "cube.fits", folder / "maps.fits")
    with fits.open(folder / "maps.fits", mode="update") as hdus:
        hdus["EBOUNDS"].data["E_MAX"][-1] *= 2
    return [word.replace("cube.fits[", "maps.fits[") for word in words]


@recipe("several images whose names end alike")
def _(folder):
    hdus = [fits.ImageHDU(np.ones(SHAPE), sky_header(SHAPE), name) for name in ("crab-counts", "vela-counts")]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folder / "two.fits")
    return "run", "two.fits", *RUN[2:]


@recipe("planes in different frames")
def _(folder):
    cards = dict(sky_header(SHAPE)) | {"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR"}
    fits.writeto(folder / "model.fits", np.ones(SHAPE), fits.Header(cards))
    return *RUN, "--background=model.fits"


@recipe("a file of the exposure that breaks off")
def _(folder):
    fits.writeto(folder / "expcube.fits", np.ones((3, *SHAPE)), fits.Header(sky_header(SHAPE)))
    os.truncate(folder / "expcube.fits", 30_000)
    return *RUN, "--exposure=expcube.fits"


@recipe("a mask that excludes the band that is taken")
def _(folder):
    fits.append(folder / "survey.fits", np.zeros(SHAPE, np.uint8), fits.Header({"EXTNAME": "MASK_SAFE"}))
    return RUN


# --- event lists ------------------------------------------------------------------------------------------------------

CRAB = {"RA": [83.6, 83.7, 83.8] * u.deg, "DEC": [22.0] * 3 * u.deg, "ENERGY": [0.5, 1.0, 2.0] * u.TeV}
ONTO = ("--center=83.6,22", "--size=4,3", "--pixel=0.1", "--frame=icrs")
BIN = ("ingest", "events.fits", "counts.fits", *ONTO)


def write_events(path, columns, name="EVENTS", gti=None, gti_unit=None, **cards):
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU(Table(columns), fits.Header(cards), name=name)]
    if gti:
        times = Table({"START": [start for start, _ in gti], "STOP": [stop for _, stop in gti]})
        for column in times.columns.values():
            column.unit = gti_unit
        hdus.append(fits.BinTableHDU(times, name="GTI"))
    fits.HDUList(hdus).writeto(path)


def events(what, columns, *arguments, name="EVENTS", gti=None, gti_unit=None, **cards):
    """It is in an event list."""

    @recipe(what)
    def _(folder):
        write_events(folder / "events.fits", columns, name, gti, gti_unit, **cards)
        return arguments or BIN


def without(*names):
    return {name: column for name, column in CRAB.items() if name not in names}


def onto(what, *options):
    """It is in the map that events are binned onto."""
    given = {option.partition("=")[0] for option in options}
    kept = [option for option in ONTO if option.partition("=")[0] not in given]
    events(what, CRAB, "ingest", "events.fits", "counts.fits", *kept, *options)


events("event lists, and no map to bin them onto", CRAB, "ingest", "events.fits", "events.fits", "counts.fits")
events("a map of which a part is lacking", CRAB, "ingest", "events.fits", "counts.fits", *ONTO[:2])
events("the whole sky in no pixels", CRAB, *BIN[:3], "--allsky")
events("the whole sky, and a part of it", CRAB, *BIN, "--allsky", "--nside=8")
events("the whole sky, and a projection", CRAB, *BIN[:3], "--allsky", "--nside=8", "--projection=AIT")
onto("pixels of a sphere on a map", "--nside=8")
events("pixels of a sphere of no order", CRAB, *BIN[:3], "--allsky", "--nside=12")
events("events beyond the poles", CRAB | {"DEC": [91.0] * 3 * u.deg}, *BIN[:3], "--allsky", "--nside=8")
onto("a centre off the sky", "--center=83.6,95")
onto("a centre that is no position", "--center=Crab,Nebula")
onto("a centre without a latitude", "--center=83.6")
onto("a map larger than the sky", "--size=400,180")
onto("a map smaller than a pixel", "--size=4,0.01")
onto("pixels of no size", "--pixel=0")
onto("pixels of less than no size", "--pixel=-0.1")
onto("more pixels than a map may have", "--pixel=0.0000001")
onto("a projection of no known name", "--projection=QQQ")
onto("a centre that a projection cannot show", "--projection=MER", "--center=0,90")
onto("a lowest energy above the highest", "--emin=2TeV", "--emax=1TeV")
onto("an energy of events without a unit", "--emin=10")
onto("an HDU of counts, and events", "--counts-hdu=COUNTS")
events("events elsewhere than on the map", CRAB, *BIN[:3], "--center=0,0", "--size=4,3", "--pixel=0.1")
events("no events", {name: column[:0] for name, column in CRAB.items()})
events("events without positions", without("DEC"))
events("events without energies, of some energies", without("ENERGY"), *BIN, "--emin=1TeV")
events("a unit that is no energy", CRAB | {"ENERGY": [1.0, 2.0, 3.0] * u.m}, *BIN, "--emin=1TeV")
events("energies without a unit", CRAB | {"ENERGY": [1.0, 2.0, 3.0]}, *BIN, "--emin=1TeV")
events("a unit that is no angle", CRAB | {"RA": [1.0, 2.0, 3.0] * u.s})
events("a column of several numbers a row", CRAB | {"RA": np.ones((3, 2))})
events("events in a frame of no known name", CRAB, RADECSYS="GAPPT")
events("a good time that ends before it starts", CRAB, gti=[(9.0, 1.0)])
events("good times in no unit of time", CRAB, gti=[(0.0, 100.0)], gti_unit="m")
events("good times that overlap", CRAB, gti=[(0.0, 100.0), (50.0, 150.0)])
events("events onto a survey, without a background", CRAB, *BIN[:2], "survey.zarr", *ONTO)
events("events in a run, without a background", CRAB, "run", "events.fits", "a/out", *ONTO, *KERNELS)
events("the sphere of an image, and events", CRAB, *BIN[:2], "survey.zarr", *ONTO, "--sphere")
events("the bands of events", CRAB, "run", "events.fits", "a/out", *ONTO, "--band=sum", *KERNELS)
events("several inputs of a run, and no map to bin them onto", CRAB, "plan", "events.fits", "survey.fits")
events("a background for counts alone", CRAB, *BIN, "--background=survey.fits")
events("a name that says neither counts nor survey", CRAB, *BIN[:2], "counts", *ONTO)
events("counts where there is a file", CRAB, *BIN[:2], "survey.fits", *ONTO)
events("counts in a directory that is not there", CRAB, *BIN[:2], "a/counts.fits", *ONTO)
events("a background on other pixels than the events", CRAB, *BIN[:2], "s.zarr", *ONTO, "--background=survey.fits")
events("a table of events that is not there", CRAB, "ingest", "events.fits[RATES]", *BIN[2:])


@recipe("an exposure by energy for events of all energies")
def _(folder):
    write_events(folder / "events.fits", CRAB)
    planes = [fits.PrimaryHDU(np.ones((3, 30, 40))), fits.ImageHDU(np.ones((30, 40)))]
    fits.HDUList(planes).writeto(folder / "expcube.fits")
    planes = "--background=expcube.fits[1]", "--exposure=expcube.fits[0]"
    return "run", "events.fits", "a/out", *ONTO, *planes, *KERNELS


typed("a map where events are needed", "ingest", "survey.fits", *BIN[2:])


@recipe("an event list given twice")
def _(folder):
    write_events(folder / "events.fits", CRAB)
    return "ingest", "events.fits", "./events.fits", *BIN[2:]


@recipe("an event list given twice, under two names")
def _(folder):
    for name in ("a.fits", "b.fits"):
        write_events(folder / name, CRAB)
    return "ingest", "a.fits", "b.fits", *BIN[2:]


@recipe("good times that overlap between lists")
def _(folder):
    for name, start in (("a.fits", 0.0), ("b.fits", 60.0)):
        # A time of its own is what makes their rows differ.
        times = {"TIME": start + np.arange(3.0)}
        write_events(folder / name, CRAB | times, gti=[(start, start + 100)], TELESCOP="HESS", OBS_ID=5)
    return "ingest", "a.fits", "b.fits", *BIN[2:]


@recipe("an event list that breaks off")
def _(folder):
    write_events(folder / "events.fits", CRAB)
    os.truncate(folder / "events.fits", 2880 * 2 + 50)
    return BIN


@recipe("a directory without event lists")
def _(folder):
    (folder / "empty").mkdir()
    return "ingest", "empty", *BIN[2:]


def index(what, columns, name="hdu-index.fits"):
    """It is in an observation index."""

    @recipe(what)
    def _(folder):
        write_events(folder / "events.fits", CRAB)
        write_events(folder / name, columns, "HDU_INDEX")
        return "ingest", name, *BIN[2:]


index("an index of observations without one of files", {"OBS_ID": [1]}, "obs-index.fits")
OF_FILES = {"OBS_ID": [1], "HDU_TYPE": ["gti"], "FILE_DIR": ["."], "FILE_NAME": ["events.fits"], "HDU_NAME": ["GTI"]}
index("an index without event lists", OF_FILES)
index("an index with numbers for names", OF_FILES | {"FILE_NAME": [1]})
text("events in a text that is none", "events.ecsv", "# %ECSV 1.0\n# ---\nRA DEC\n", "ingest", "events.ecsv", *BIN[2:])

# --- maps in memory ---------------------------------------------------------------------------------------------------

ONES = np.ones(SHAPE)
COUNTS = fits.ImageHDU(ONES, sky_header(SHAPE), "COUNTS")
IN_MEMORY = {
    "an array": ONES,
    "counts and background without names": (ONES, ONES),
    "an open FITS file": fits.HDUList([fits.PrimaryHDU(), COUNTS]),
    "counts without sky coordinates": {"counts": ONES, "background": ONES},
    "counts alone": {"counts": COUNTS},
    "a map of another name": {"counts": COUNTS, "bkg": ONES},
    "a mask of another shape": {"counts": NDData(ONES, mask=[True, False]), "background": ONES},
}

# --- options ----------------------------------------------------------------------------------------------------------


def config(what, content, *, but=""):
    """It is in a configuration file; one word of the usual call may have to go."""
    text(what, "config.toml", content, *(word for word in RUN if word != but), "--config=config.toml")


def catalogue(what, columns, name="known.fits", options=()):
    @recipe(what)
    def _(folder):
        Table(columns).write(folder / "known.fits")
        return "match", "run", name, *options


typed("an option that does not exist", *RUN, "--significance-treshold=3")
config("a setting that does not exist", "significance_treshold = 3")
config("a setting of the wrong type", 'tol = "small"')
config("a background that is no file name", "background = 5")
config("an address that is no text", "scheduler = 8786")
config("a file name that is no text", "scheduler_file = 5")
config("a cluster of no known kind", '[cluster]\nkind = "pbs"')
config("an option of the cluster outside its options", '[cluster]\nkind = "slurm"\nqueue = "long"')
config("a cluster by address without one", 'cluster = "address"')
config("a cluster of pods without consent", '[cluster]\nkind = "kubernetes"', but="--workers=0")
config("jobs without a number", 'cluster = "slurm"', but="--workers=0")
config("a settings file that is not TOML", "n_scale = ")
typed("a settings file that does not exist", *RUN, "--config=absent.toml")
typed("a word where a number is needed", *RUN, "--n-scale=two")
typed("a number out of its range", *RUN, "--step-scale=1")
typed("a number that is none", *RUN, "--tol=nan")
typed("no false sources at all", *RUN, "--false-sources=0")
typed("less than no false sources", *RUN, "--false-sources=-1")
typed("a number of false sources that is none", *RUN, "--false-sources=nan")
typed("a run that is to be split at nothing", *FINISHED, "--false-sources=0")
typed("a number that is too large", *RUN, "--margin=9999999999")
typed("no angle", *RUN, "--min-scale=0.6parsec")
typed("a time that is none", *RUN, "--stall-timeout=soon")
config("a cluster of no workers", "cluster.options.n_workers = -1")
config("workers of no size", 'cluster.options.memory_limit = "lots"')
typed("an energy without a unit", *RUN, "--emin=10")
typed("energies out of order", *RUN, "--emin=1TeV", "--emax=10GeV")
typed("bands by number and by energy", *RUN, "--band=0", "--emin=10GeV")
typed("a photon index that is none", *RUN, "--index=40")
typed("a unit of exposure that is none", *RUN, "--exposure-unit=kg")
typed("no size", *RUN, "--memory-limit=lots")
typed("an assessment of fewer skies than none", "assess", "run", "--nulls=-1")
typed("an assessment of nothing", "assess", "run", "--nulls=0", "--injections=0")
typed("a radius that is none", "match", "run", "known.fits", "--radius=20")
catalogue("a table that a catalogue does not have", {"ra": [1.0], "dec": [0.0]}, "known.fits[2]")
typed("a catalogue that does not exist", "match", "run", "absent.fits")
catalogue("a catalogue without positions", {"x": [1.0]})
text("a catalogue with a comma too many", "known.csv", "name,ra,dec\nA, the first,1,0\n", "match", "run", "known.csv")
text(
    "a VOTable whose data are in another file",
    "known.vot",
    '<VOTABLE><RESOURCE><TABLE><FIELD name="ra" datatype="double"/><DATA><BINARY><STREAM href="file:///etc/passwd"/>'
    "</BINARY></DATA></TABLE></RESOURCE></VOTABLE>",
    *("match", "run", "known.vot"),
)
catalogue("a catalogue with several positions", {name: [1.0] for name in ("ra_a", "dec_a", "ra_b", "dec_b")})
catalogue("columns that a catalogue does not have", {"ra": [1.0], "dec": [0.0]}, options=("--columns=x,y",))
catalogue("positions in no unit of angles", {"ra": [1.0] * u.m, "dec": [0.0]})
typed("a catalogue that is an image", "match", "run", "survey.fits")
catalogue("a catalogue of another part of the sky", {"ra": [200.0], "dec": [0.0]})
catalogue("a catalogue of blank positions", {"ra": ["--"], "dec": [""]})
typed("too many scales", *RUN, "--n-scale=100", "--step-scale=1.01")
typed("scales in the wrong unit", *RUN, "--min-scale=200.00000001deg")
typed("scales too fine", *RUN, "--min-scale=0.1")
typed("tiles larger than the memory", *RUN, "--memory-limit=1MiB")
config("workers smaller than a tile, or than Python itself", 'cluster.options.memory_limit = "100MiB"')
typed("options that exclude each other", *RUN, "--scheduler=tcp://a:1", "--scheduler-file=b")
typed("an address of no known kind", *RUN, "--scheduler=htp://a:1")
typed("an address without a port", *RUN, "--scheduler=tls://a")
config("workers that cannot start", 'tile_size = 24\ncluster.options.host = "192.0.2.1"', but="--workers=0")
typed("a scheduler file that does not exist", *RUN, "--scheduler-file=absent.json")
SIMULATE = ("simulate", "sky.fits", "--seed=1", "--shape")
typed("a simulation of no size", "simulate", "sky.fits", "--seed=1")
typed("a simulated sky of no such pixels", "simulate", "sky.fits", "--seed=1", "--nside=100")
typed("more simulated sources than pixels", *SIMULATE, "9", "9", "--sources=99999")
typed("a simulation larger than the disk", *SIMULATE, "99999999", "99999999")

# --- an estimated background ------------------------------------------------------------------------------------------

ESTIMATED = ("background", "survey.fits", "b.fits", "--workers=0")
OF_COUNTS = (*RUN, "--background=estimate")
typed("a scale of 0", *ESTIMATED, "--scale=0")
typed("a scale below 0", *ESTIMATED, "--scale=-5")
typed("a scale that is NaN", *ESTIMATED, "--scale=nan")
typed("a scale in another unit", *ESTIMATED, "--scale=2pc")
typed("a scale below two pixels", *ESTIMATED, "--scale=0.15deg")
typed("a scale larger than the map", *OF_COUNTS, "--background-scale=60")
typed("a scale for which windows are too large", *OF_COUNTS, "--background-scale=5", "--memory-limit=100kB")
typed("no scale", *OF_COUNTS)
typed("a scale, and nothing to estimate", *RUN, "--background-scale=2deg")
typed("a file, and estimate", *OF_COUNTS, "--background-scale=5", "--background=survey.fits")
typed("an HDU, and estimate", *OF_COUNTS, "--background-scale=5", "--background-hdu=BACKGROUND")
typed("a store, and estimate", *STORE, "--background=estimate", "--background-scale=5")
typed("a name of another kind", "background", "survey.fits", "b.txt", "--scale=5")
typed("a file in no directory", "background", "survey.fits", "absent/b.fits", "--scale=5")


@recipe("a name that is there")
def _(folder):
    (folder / "b.fits").write_text("mine")
    return *ESTIMATED, "--scale=5"


def offered(what, exposure):
    """It is in the exposure with which the background is taken to go."""

    @recipe(what)
    def _(folder):
        fits.HDUList([fits.PrimaryHDU(exposure)]).writeto(folder / "offered.fits")
        return *ESTIMATED, "--scale=5", "--exposure=offered.fits"


def counted(what, counts, *options):
    """It is in the counts."""

    @recipe(what)
    def _(folder):
        fits.HDUList([fits.PrimaryHDU(counts, sky_header(SHAPE))]).writeto(folder / "survey.fits", overwrite=True)
        return *ESTIMATED, *options


offered("an exposure of another shape", np.ones((44, 50)))
offered("an exposure of 0", np.zeros(SHAPE))
counted("no counts at all", np.zeros(SHAPE), "--scale=5")
BLOCKS = np.add.outer(np.arange(SHAPE[0]) // 6, np.arange(SHAPE[1]) // 6) % 2
counted("all pixels are those of sources", 10000.0 * BLOCKS, "--scale=8")


@recipe("an estimate of other bands")
def _(folder):
    cube = np.ones((3, *SHAPE))
    fits.HDUList([fits.PrimaryHDU(cube, sky_header(SHAPE))]).writeto(folder / "survey.fits", overwrite=True)
    header = fits.Header({"BKGNOTE": "estimated background", "BKGBANDS": "0 to 2 of 3"})
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(cube[0], header, "BACKGROUND")]).writeto(folder / "b.fits")
    return *RUN, "--background=b.fits", "--band=1"


# --- run directories and stores ---------------------------------------------------------------------------------------


DAMAGED = '{"zarr_format": 3, "node_type": "group", "attributes": {"seal": "0"}}'


def run_toml(what, old, new):
    @recipe(what)
    def _(folder):
        path = folder / "run" / "run.toml"
        path.write_text(path.read_text().replace(old, new))
        return "status", "run"


def store(what, but=(), **attributes):
    @recipe(what)
    def _(folder):
        stored = zarr.open_group(folder / "run" / "survey.zarr", mode="r+").attrs
        content = sealed(stored.asdict() | attributes)
        stored.put({name: value for name, value in content.items() if name not in but})
        return STORE


text("RUN_DIR is a file", "out", "mine", *OUT)
text("RUN_DIR holds other files, and no run", "out/thesis.tex", "mine", *OUT, "--overwrite")


@recipe("RUN_DIR lies beyond a circle of links")
def _(folder):
    (folder / "here").symlink_to("there")
    (folder / "there").symlink_to("here")
    return "run", "survey.fits", "here/out", *KERNELS


@recipe("RUN_DIR looks like a run's, and is none")
def _(folder):
    (folder / "out" / "ledger").mkdir(parents=True)
    (folder / "out" / "ledger" / "run-id").write_text("accounts of this year")
    (folder / "out" / "run.toml").write_text('kind = "marathon"')
    return *OUT, "--overwrite"


@recipe("files of others lie in the run that is overwritten")
def _(folder):
    (folder / "run" / ".git" / "objects").mkdir(parents=True)
    (folder / "run" / ".git" / "objects" / "0").touch()
    (folder / "run" / ".git" / "HEAD").touch()
    (folder / "run" / "ledger" / "accounts.csv").touch()
    (folder / "run" / "maps.zarr").rename(folder / "maps.zarr")
    (folder / "run" / "maps.zarr").symlink_to(folder / "maps.zarr")
    return *FINISHED, "--overwrite"


@recipe("a folder of RUN_DIR is a link, into another run, say")
def _(folder):
    (folder / "run" / "maps.zarr").rename(folder / "maps.zarr")
    (folder / "run" / "maps.zarr").symlink_to(folder / "maps.zarr")
    return FINISHED


@recipe("another run reads the survey of the one that is overwritten")
def _(folder):
    shared = ["run", str(folder / "run" / "survey.zarr"), str(folder / "next"), "--workers=0", "--no-report", *KERNELS]
    assert main([*shared, "--quiet"]) == 0
    return *FINISHED, "--overwrite"


@recipe("what is noted of another run that reads its survey is damaged")
def _(folder):
    (folder / "run" / "users").mkdir()
    (folder / "run" / "users" / f"{'0' * 32}.json").write_text(DAMAGED)
    return *FINISHED, "--overwrite"


text("RUN_DIR is below a file", "file", "mine", "run", "survey.fits", "file/out", *KERNELS)
typed("RUN_DIR has a name that nothing can have", "run", "survey.fits", f"a/b/{LONG}", *KERNELS)
typed("RUN_DIR holds a run under other settings", *FINISHED, "--tol=0.1", "--stopping=fixed")
typed("the survey lies in the run that is overwritten", "run", "run/survey.zarr", "run", "--overwrite", *KERNELS)
typed("the history of a run that keeps none", *FINISHED, "--keep-history")
typed("no run at all", "status", "absent")
typed("a run of a name that nothing can have", "status", LONG + LONG)
run_toml("a damaged run.toml", "[plan]", "[plan")
run_toml("a changed run.toml", "contract_margin = ", "contract_margin = 1")
typed("no tile to verify", "verify", "run", "--recompute=0")
typed("a seed that is none", "verify", "run", "--recompute=1", "--seed=-1")
typed("reprocessing a run into itself", "reprocess", "survey.fits", "run", "run")
store("a Zarr group that is no survey", kind="other")
store("a store of another version", version=1)
store("a store without digests", but=("seal", "descriptions"), version=5)
text("a store whose description is damaged", "run/survey.zarr/zarr.json", DAMAGED, *STORE)
text("a store whose file is damaged", "run/survey.zarr/zarr.json", "[]", *STORE)
text("a store of which a plane's description is damaged", "run/survey.zarr/counts/zarr.json", "x", *STORE)
typed("a plane chosen of a store", *STORE, "--counts-hdu=1")
typed("a store's name is taken", "ingest", "survey.fits", "run")
typed("a store's name is one that nothing can have", "ingest", "survey.fits", LONG)
typed("so is that of a simulation", "simulate", f"{LONG}.fits", "--seed=1", "--shape", "9", "9")


@recipe("RUN_DIR holds the run of another survey")
def _(folder):
    with fits.open(folder / "survey.fits", mode="update") as hdus:
        hdus["COUNTS"].data[:] = 1
    return FINISHED


@recipe("a run that is not finished")
def _(folder):
    (folder / "run" / "certificate.json").unlink()
    return "verify", "run"


@recipe("the survey's store is no longer there")
def _(folder):
    (folder / "run" / "survey.zarr").rename(folder / "s.zarr")
    assert main(["run", "s.zarr", *FINISHED[2:], "--quiet"]) == 0
    shutil.rmtree(folder / "s.zarr")
    return FINISHED


@recipe("a picture in a place where none can be written")
def _(folder):
    (folder / "file").touch()
    return "compare", "run", "run", "--plot=file/difference.png"


typed("a picture of no known kind", "compare", "run", "run", "--plot=difference.txt")


@recipe("a picture whose name is taken")
def _(folder):
    (folder / "difference.png").touch()
    return "compare", "run", "run", "--plot=difference.png"


typed("a picture within a run", "compare", "run", "run", "--plot=run/difference.png")

# --- exports ----------------------------------------------------------------------------------------------------------

AT = ("measure", "run", "known.fits", "--workers=0")


def positions(what, columns, *options):
    """It is in a table of positions, or in an option that goes with one."""

    @recipe(what)
    def _(folder):
        Table(columns).write(folder / "known.fits")
        return *AT, *options


HERE = {"ra": [266.0], "dec": [-20.0], "extension": [0.0]}
positions("positions in another part of the sky", {"ra": [100.0], "dec": [60.0]})
positions("an extension that is too wide", HERE | {"extension": [30.0]})
positions("an extension in a column that is none", HERE, "--extension=size")
positions("an extension that is no angle", HERE | {"extension": [1.0] * u.m})


@recipe("a run to be measured twice")
def _(folder):
    Table(HERE).write(folder / "known.fits")
    return "measure", "run", *AT[1:]


positions("a table to be measured into that is there", HERE, "--out=survey.fits")
positions("a table to be measured into of no such format", HERE, "--out=out.csv")
positions("a table to be measured into within a run", HERE, "--out=run/known.ecsv")
positions("light curves within a run", HERE, "--plot=run/known.png")
typed("a format of no export", "export", "run", "new", "--format=png")
typed("an export to a place that is taken", "export", "run", "run", "--format=moc")
typed("an export to a bucket", "export", "run", "s3://surveys/moc", "--format=moc")
typed("models of a run without fluxes", "export", "run", "new", "--format=gammapy")
typed("energies of what has no spectra", "export", "run", "new", "--format=ds9", "--emin=10GeV")


@recipe("models of a run that does not know its energies")
def _(folder):
    counts, background = poisson_sky(SHAPE, seed=3)
    survey = write_survey(folder / "exposed.fits", counts, background, exposure=1e10)
    assert main(["run", str(survey), "exposed", "--workers=0", "--quiet", "--no-report", *KERNELS]) == 0
    return "export", "exposed", "new", "--format=fermipy-xml"
