/**
 * One GGUF file at an https:// address, read by ranges of its header. Its content is known by a sha256 that the source
 * gives (`#sha256=…`) or the hub tells (X-Linked-Etag), else by the server's own ETag or Last-Modified.
 */
import { createHash } from 'node:crypto'
import type { ModelFile } from '../../api/model.ts'
import { digestOf } from '../../api/modelfiles/digest.ts'
import { shapeOfModel } from '../../api/modelfiles/shape.ts'
import type { HubModel } from '../../api/modelhub.ts'
import { OpError } from '../../lib/errors.ts'
import type { SturdyAnswer, SturdyFetch } from '../../lib/sturdyfetch.ts'

/** Most headers of GGUF are a few megabytes of vocabulary. */
const FIRST_BYTES = 4 * 2 ** 20

/** `given`: the sha256 of the source. Errors as `ModelHub.readFile` says. */
export async function readGgufFile(get: SturdyFetch, url: string, given: string | undefined): Promise<HubModel> {
  const first = await get(url, { range: [0, FIRST_BYTES] })
  const sizeBytes = first.totalBytes
  if (sizeBytes === undefined) throw new OpError('Unavailable', `read ${shown(url)}: the server does not tell its size`)
  const etag = validatorOf(first)
  const name = nameOf(url)
  const readRange = async (_: string, start: number, end: number): Promise<Uint8Array> => {
    if (start >= sizeBytes) return new Uint8Array()
    if (end <= first.body.byteLength) return first.body.subarray(start, end)
    const answer = await get(url, { range: [start, Math.min(end, sizeBytes)] })
    if (answer.totalBytes !== sizeBytes || validatorOf(answer) !== etag)
      throw new OpError('Unavailable', `read ${shown(url)}: the file changes while it is read`)
    return answer.body
  }
  const shape = await shapeOfModel({ files: [{ name, sizeBytes }], readRange })
  const sha256 = sha256Of(first, url, given)
  const file: ModelFile = { name, sizeBytes, ...(sha256 === undefined ? { etag } : { sha256 }) }
  const content = `${url}\0${sha256 ?? etag}\0${sizeBytes}`
  const resolvedRevision = createHash('sha256').update(content).digest('hex').slice(0, 40)
  return { shape, digest: digestOf([file]), resolvedRevision, files: [file] }
}

function sha256Of({ headers }: SturdyAnswer, url: string, given: string | undefined): string | undefined {
  const linked = headers.get('x-linked-etag')?.replace(/^W\//, '').replaceAll('"', '')
  const told = linked !== undefined && /^[0-9a-f]{64}$/.test(linked) ? linked : undefined
  if (given !== undefined && told !== undefined && given !== told)
    throw new OpError('Invalid', `read ${shown(url)}: expected sha256 ${given}, the server says ${told}`)
  return given ?? told
}

/** What the server says while the content is the same to the byte; a weak ETag does not say that. '' when it says nothing. */
function validatorOf({ headers }: SturdyAnswer): string {
  const etag = headers.get('etag')
  return (etag !== null && !etag.startsWith('W/') ? etag : headers.get('last-modified')) ?? ''
}

/** A plain name for the disk. */
function nameOf(url: string): string {
  const last = decodeURIComponent(new URL(url).pathname).split('/').at(-1) ?? ''
  return last.replaceAll(/[^\w.+@-]+/g, '_').replace(/^[^\w]+/, '') || 'model.gguf'
}

/** Without its query, which may be signed. */
const shown = (url: string): string => `${new URL(url).origin}${new URL(url).pathname}`

/** What a status means that trying again does not mend. */
export function urlRefusal(url: string, status: number): OpError {
  const what = `read ${shown(url)}`
  if (status === 404 || status === 410) return new OpError('NotFound', `${what}: there is no such file (${status})`)
  if (status === 401 || status === 403)
    return new OpError(
      'Unauthorized',
      `${what}: the server refuses it (${status}): mctl reads public files, and those of the hub with HF_TOKEN`,
    )
  if (status === 416) return new OpError('Invalid', `${what}: the file is empty`)
  return new OpError('Unavailable', `${what}: the server answers ${status}`)
}
