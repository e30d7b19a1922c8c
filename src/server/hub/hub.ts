/**
 * Reads what a model is from the hub, by range, so that nothing is downloaded to plan. A revision becomes a commit first,
 * and everything after it is of that commit, whatever happens to the branch. Listings go through @huggingface/hub on a
 * fetch of ours; docs/decisions/0002-hub-client.md says what of that library serves and what does not.
 */
import { listFiles, modelInfo } from '@huggingface/hub'
import type { ModelFile } from '../../api/model.ts'
import { digestOf, neededFiles } from '../../api/modelfiles/digest.ts'
import { shapeOfModel, weightsOf } from '../../api/modelfiles/shape.ts'
import type { HubModel, ModelHub } from '../../api/modelhub.ts'
import type { Clock, Random } from '../../lib/clock.ts'
import { isOpError, OpError } from '../../lib/errors.ts'
import type { SturdyFetch, SturdyFetchOptions } from '../../lib/sturdyfetch.ts'
import { sturdyFetch } from '../../lib/sturdyfetch.ts'
import type { HubEntry } from './entries.ts'
import { entryOf, isCommit } from './entries.ts'
import { HubFiles } from './files.ts'
import { refusalFor } from './refusals.ts'
import { readGgufFile, urlRefusal } from './url.ts'

export interface HubOptions {
  /** As HF_ENDPOINT: an http(s) address without a trailing slash. */
  readonly endpoint: string
  /** As HF_TOKEN. Goes to the endpoint's own origin, and nowhere else. */
  readonly token?: string
  readonly clock: Clock
  readonly random: Random
  /** Longest silence that is borne. Default 20 s. */
  readonly stallMs?: number
  /** Tries per request. Default 4. */
  readonly attempts?: number
  /** First wait between two tries; it doubles. Default 500 ms. */
  readonly firstBackoffMs?: number
}

const MAX_FILES = 10_000
/** The largest listing of 10,000 files is below 4 MB, the largest header 100 MB. */
const MAX_BODY_BYTES = 101_000_000
const MAX_LISTING_BYTES = 20_000_000

/** OpError Invalid when the endpoint is no http(s) address. */
export function createHub(options: HubOptions): ModelHub {
  const { endpoint, token } = options
  const { origin } = new URL(endpoint)
  const fetchWith = (signal: AbortSignal, refusal: SturdyFetchOptions['refusal']): SturdyFetch =>
    sturdyFetch({
      clock: options.clock,
      random: options.random,
      stallMs: options.stallMs ?? 20_000,
      attempts: options.attempts ?? 4,
      backoff: { firstMs: options.firstBackoffMs ?? 500, factor: 2, maxMs: 15_000, jitter: 0.3 },
      maxBodyBytes: MAX_BODY_BYTES,
      headersFor: (url) => ({
        'user-agent': 'mctl',
        ...(token !== undefined && url.origin === origin ? { authorization: `Bearer ${token}` } : {}),
      }),
      refusal,
      signal,
    })
  return {
    read(repository, revision, signal) {
      const refusal: SturdyFetchOptions['refusal'] = (status, headers) =>
        refusalFor({ endpoint, repository, revision, status, headers, token })
      return readModel(fetchWith(signal, refusal), endpoint, repository, revision)
    },
    readFile: (url, sha256, signal) =>
      readGgufFile(
        fetchWith(signal, (status) => urlRefusal(url, status)),
        url,
        sha256,
      ),
  }
}

async function readModel(get: SturdyFetch, endpoint: string, repository: string, revision: string): Promise<HubModel> {
  const commit = await commitOf(get, endpoint, repository, revision)
  const entries = await entriesOf(get, endpoint, repository, commit)
  const files = new HubFiles({ get, endpoint, repository, commit, entries })
  const shape = await shapeOfModel(files)
  const names = neededFiles([...entries.keys()], await weightsOf(files))
  const needed: ModelFile[] = []
  for (const name of names) needed.push(await files.describe(name))
  return { shape, digest: digestOf(needed), resolvedRevision: commit, files: needed }
}

async function commitOf(get: SturdyFetch, hubUrl: string, name: string, revision: string): Promise<string> {
  const info = await answered(() =>
    modelInfo({ name, revision, hubUrl, additionalFields: ['sha'], fetch: libraryFetch(get, hubUrl) }),
  )
  if (!isCommit(info.sha))
    throw new OpError('Unavailable', `read hf://${name}: the hub names no commit for ${revision}`)
  return info.sha
}

/** The files of the repository's own folder, by name; files in folders below it are for other programs. */
async function entriesOf(
  get: SturdyFetch,
  hubUrl: string,
  name: string,
  commit: string,
): Promise<ReadonlyMap<string, HubEntry>> {
  const entries = new Map<string, HubEntry>()
  await answered(async () => {
    const listed = listFiles({
      repo: { type: 'model', name },
      revision: commit,
      hubUrl,
      fetch: libraryFetch(get, hubUrl),
    })
    for await (const item of listed) {
      const entry = entryOf(name, item)
      if (entry !== undefined) entries.set(entry.name, entry)
      if (entries.size > MAX_FILES) throw new OpError('Invalid', `read hf://${name}: more than ${MAX_FILES} files`)
    }
  })
  return entries
}

/** Our fetch in the form that the library takes. The hub's own word leads to the next page: only to the hub itself. */
function libraryFetch(get: SturdyFetch, endpoint: string): typeof fetch {
  const ask = async (address: string | URL | Request): Promise<Response> => {
    const url = address instanceof Request ? address.url : address.toString()
    if (new URL(url).origin !== new URL(endpoint).origin)
      throw new OpError('Unavailable', `read ${endpoint}: its listing leads to another server`)
    const { headers, body } = await get(url, { headers: { accept: 'application/json' } })
    if (body.byteLength > MAX_LISTING_BYTES)
      throw new OpError('Invalid', `read ${endpoint}: a listing of ${body.byteLength} bytes`)
    const link = headers.get('link')
    return new Response(Uint8Array.from(body), { headers: link === null ? {} : { link } })
  }
  return ask
}

/** The library's own errors are of answers that are no JSON, or not of the form that it expects. */
async function answered<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask()
  } catch (cause) {
    if (isOpError(cause)) throw cause
    throw new OpError('Unavailable', 'read the hub: its answer is not understood', { cause })
  }
}
