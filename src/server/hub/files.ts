/**
 * The files of one commit as `ModelFiles`: ranges of the large ones, the small ones whole and checked against git's own
 * hash. Nothing is believed that contradicts the listing.
 */
import { createHash } from 'node:crypto'
import type { ModelFile } from '../../api/model.ts'
import type { ModelFiles } from '../../api/modelfiles/files.ts'
import { fileFault } from '../../api/modelfiles/files.ts'
import { OpError } from '../../lib/errors.ts'
import type { SturdyAnswer, SturdyFetch } from '../../lib/sturdyfetch.ts'
import type { HubEntry } from './entries.ts'

interface FilesOptions {
  readonly get: SturdyFetch
  readonly endpoint: string
  readonly repository: string
  readonly commit: string
  readonly entries: ReadonlyMap<string, HubEntry>
}

/** The first read of a large file: most headers are smaller, and one request is cheaper than two. */
const FIRST_BYTES = 128 * 1024
/** Files outside of large storage are at most 10 MB on the hub. */
const MAX_SMALL_BYTES = 20_000_000
const MAX_SMALL_BYTES_IN_ALL = 100_000_000
const TRIES = 3

export class HubFiles implements ModelFiles {
  readonly files: ModelFiles['files']
  readonly #options: FilesOptions
  readonly #starts = new Map<string, Promise<Uint8Array>>()
  readonly #contents = new Map<string, Promise<Uint8Array>>()
  #smallBytes = 0

  constructor(options: FilesOptions) {
    this.#options = options
    this.files = [...options.entries.values()].map(({ name, sizeBytes }) => ({ name, sizeBytes }))
  }

  readonly readRange = async (name: string, start: number, end: number): Promise<Uint8Array> => {
    const entry = this.#entry(name)
    if (entry.sha256 === undefined) return (await this.#content(entry)).subarray(start, end)
    const until = Math.min(end, entry.sizeBytes)
    if (start >= until) return new Uint8Array()
    if (until > FIRST_BYTES) return this.#part(entry, start, until)
    return (await this.#start(entry)).subarray(start, until)
  }

  /** With the sha256 of its content: the hub's own word for large files, counted by us for small ones. */
  async describe(name: string): Promise<ModelFile> {
    const entry = this.#entry(name)
    const sha256 = entry.sha256 ?? hash('sha256', await this.#content(entry))
    return { name, sizeBytes: entry.sizeBytes, sha256 }
  }

  #entry(name: string): HubEntry {
    const entry = this.#options.entries.get(name)
    if (entry === undefined) throw fileFault(name, 'the file is missing')
    return entry
  }

  #start(entry: HubEntry): Promise<Uint8Array> {
    return once(this.#starts, entry.name, () => this.#part(entry, 0, Math.min(FIRST_BYTES, entry.sizeBytes)))
  }

  #content(entry: HubEntry): Promise<Uint8Array> {
    return once(this.#contents, entry.name, () => this.#whole(entry))
  }

  async #part(entry: HubEntry, start: number, end: number): Promise<Uint8Array> {
    const answer = await this.#options.get(this.#address(entry), { range: [start, end] })
    this.#check(entry, answer)
    return answer.body
  }

  async #whole(entry: HubEntry): Promise<Uint8Array> {
    const { name, sizeBytes, blobId } = entry
    this.#smallBytes += sizeBytes
    if (sizeBytes > MAX_SMALL_BYTES || this.#smallBytes > MAX_SMALL_BYTES_IN_ALL)
      throw fileFault(name, `${sizeBytes} bytes outside of the hub's large storage are too many to read`)
    for (let tries = 1; ; tries += 1) {
      const answer = await this.#options.get(this.#address(entry))
      this.#check(entry, answer)
      const found = gitHash(answer.body)
      if (answer.body.byteLength === sizeBytes && (blobId === undefined || found === blobId)) return answer.body
      if (tries < TRIES) continue
      throw this.#lie(
        name,
        `${answer.body.byteLength} bytes of git hash ${found}, expected ${sizeBytes} of ${blobId ?? 'any'}`,
      )
    }
  }

  /** The answer's own headers must agree with the listing of the commit. */
  #check({ name, sizeBytes, sha256 }: HubEntry, { headers, totalBytes }: SturdyAnswer): void {
    const commit = headers.get('x-repo-commit')
    if (commit !== null && commit !== this.#options.commit)
      throw this.#lie(name, `of commit ${commit}, expected ${this.#options.commit}`)
    if (totalBytes !== undefined && totalBytes !== sizeBytes)
      throw this.#lie(name, `of ${totalBytes} bytes, expected ${sizeBytes}`)
    const linked = headers.get('x-linked-etag')?.replace(/^W\//, '').replaceAll('"', '')
    if (sha256 !== undefined && linked !== undefined && /^[0-9a-f]{64}$/.test(linked) && linked !== sha256)
      throw this.#lie(name, `of sha256 ${linked}, expected ${sha256}`)
  }

  #lie(name: string, detail: string): OpError {
    return new OpError('Unavailable', `read hf://${this.#options.repository}: the hub answers ${name} ${detail}`)
  }

  #address({ name }: HubEntry): string {
    const { endpoint, repository, commit } = this.#options
    return `${endpoint}/${repository}/resolve/${commit}/${encodeURIComponent(name)}`
  }
}

/** One reading for all who ask for it; a failed one is not remembered. */
function once(known: Map<string, Promise<Uint8Array>>, name: string, read: () => Promise<Uint8Array>) {
  let reading = known.get(name)
  if (reading === undefined) {
    reading = read()
    known.set(name, reading)
    reading.catch(() => known.delete(name))
  }
  return reading
}

const hash = (algorithm: 'sha256' | 'sha1', bytes: Uint8Array): string =>
  createHash(algorithm).update(bytes).digest('hex')

const gitHash = (content: Uint8Array): string =>
  createHash('sha1').update(`blob ${content.byteLength}\0`).update(content).digest('hex')
