/* How long a line is in an image. Its ends are in pixels from the upper left corner; pixel 0 reaches from 0 to 1.
   An ultrasound has regions, each with a scale of its own (DICOM PS3.3, C.8.5.5): a line is measured where one region
   that shows lengths holds both its ends. Any other image has one scale, or none: then pixels are counted. */
const holds = ({ box: [left, top, right, bottom] }, x, y) => x >= left && x <= right + 1 && y >= top && y <= bottom + 1;

const long = ([x1, y1, x2, y2], [down, across]) => Math.hypot((x2 - x1) * across, (y2 - y1) * down);

/* {long, unit, scale}, or {unmeasured}: why it is not. */
export const measured = (line, image) => {
  if (image.regions.length) {
    const [here, there] = [line.slice(0, 2), line.slice(2)].map(([x, y]) => image.regions.find((region) => holds(region, x, y)));
    if (!here && !there) return { unmeasured: 'outside' };
    if (here !== there) return { unmeasured: 'across' };
    if (here.spacing[0] > 0) return { long: long(line, here.spacing), unit: 'mm', scale: 'region' };
    return { unmeasured: here.shows === 'plane' ? 'other' : here.shows };
  }
  if (image.spacing[0] > 0) return { long: long(line, image.spacing), unit: 'mm', scale: image.scale };
  return { long: long(line, [1, 1]), unit: 'px', scale: '' };
};
