/**
 * A hub on this machine with the real one's manners: listings at a revision in pages, `resolve` that redirects (relative
 * for small files, to a signed address on another origin for large ones), ranges, etags, X-Repo-Commit, gated and private
 * repositories. It does as it is told: stall, cut, lie, corrupt, answer 429 and 5xx, and move a branch under way.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { systemClock } from '../../src/lib/clock.ts'
import { issue, makeAuthority, makeKey, makeRequest } from '../../src/lib/x509.ts'

/** Bytes of a file, real ones or made when they are asked for: a file of 5 GB costs nothing. */
export interface HubContent {
  readonly sizeBytes: number
  readonly sha256: string
  /** Kept in large storage, as the hub does with weights. */
  readonly large: boolean
  read(start: number, end: number): Uint8Array
}

const hashOf = (algorithm: string, ...parts: readonly (string | Uint8Array)[]): string => {
  const hash = createHash(algorithm)
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}

const isLarge = (name: string, sizeBytes: number): boolean =>
  /\.(?:safetensors|gguf|bin|model)$/.test(name) || sizeBytes > 10_000_000

export const content = (bytes: Uint8Array, large: boolean): HubContent => ({
  sizeBytes: bytes.byteLength,
  sha256: hashOf('sha256', bytes),
  large,
  read: (start, end) => bytes.subarray(start, end),
})

/** A file that is longer than its bytes: zeros follow. Its sha256 is made up, for nobody can count it. */
export const virtual = ({ bytes, sizeBytes }: { bytes: Uint8Array; sizeBytes: number }): HubContent => ({
  sizeBytes,
  sha256: hashOf('sha256', bytes, String(sizeBytes)),
  large: true,
  read: (start, end) =>
    Buffer.concat([bytes.subarray(start, end), Buffer.alloc(Math.max(0, end - Math.max(start, bytes.byteLength)))]),
})

export interface HubRequest {
  /** What it was about: `info`, `tree`, `resolve` (asked of the hub) or `content` (of the storage behind it). */
  readonly about: 'info' | 'tree' | 'resolve' | 'content' | 'raw' | 'other'
  readonly path: string
  /** Name of the file, for resolve, content and raw. */
  readonly file: string
  readonly range: string | undefined
  /** The credential that came with it. */
  readonly authorization: string | undefined
  status: number
  bytesSent: number
}

export type HubFault =
  /** Answers so; `times` absent: for ever. */
  | { readonly answer: number; readonly headers?: Readonly<Record<string, string>>; readonly body?: string }
  /** Says nothing, or nothing more after so many bytes. */
  | { readonly stallAfterBytes: number }
  | { readonly cutAfterBytes: number }
  /** The length in the headers is so much too large; the connection then ends. */
  | { readonly liesAboutLengthBy: number }
  /** Turns one bit of the byte at this place of the file. */
  | { readonly corruptsByte: number }
  | { readonly ignoresRange: true }
  | { readonly slowBytesPerSecond: number }
  | { readonly headers: Readonly<Record<string, string>> }
  /** Runs before the answer: move a branch, take a file away. */
  | { readonly run: () => void }

interface Rule {
  readonly matches: (request: HubRequest) => boolean
  readonly fault: HubFault
  left: number
}

interface Repository {
  readonly commits: Map<string, ReadonlyMap<string, HubContent>>
  readonly branches: Map<string, string>
  gated: boolean
  private: boolean
}

export interface RepositoryOptions {
  readonly gated?: boolean
  readonly private?: boolean
}

const SIGNATURE = 'Signature=valid'

export interface HubTls {
  readonly key: string
  readonly cert: string
}

/** A hub's certificate for this machine, of an authority that no machine trusts by itself. */
export async function ownTls(): Promise<HubTls & { readonly authorityPem: string }> {
  const nowMs = systemClock.nowMs()
  const validity = { notBeforeMs: nowMs - 60_000, notAfterMs: nowMs + 24 * 3_600_000 }
  const authority = await makeAuthority('company', validity)
  const subject = { commonName: 'hub', organization: 'company' }
  const key = await makeKey()
  const requestPem = await makeRequest(key, subject)
  const cert = await issue(authority, { ...validity, requestPem, subject, ipAddresses: ['127.0.0.1'], usage: 'server' })
  return { key, cert, authorityPem: authority.certificatePem }
}

export class TestHub {
  readonly requests: HubRequest[] = []
  /** Tokens that may read gated and private repositories; others are valid but strangers. */
  readonly members = new Set<string>()
  readonly strangers = new Set<string>()
  /** Files per page of a listing. */
  pageSize = 1000
  readonly #repositories = new Map<string, Repository>()
  readonly #rules: Rule[] = []
  readonly #sockets = new Set<{ destroy(): void }>()
  readonly #hub: Server
  readonly #storage: Server
  #moments = 0
  #ports: readonly number[] = []

  readonly #scheme: 'http' | 'https'

  readonly #address: string

  private constructor(tls: HubTls | undefined, address: string) {
    this.#address = address
    const serving = (at: 'hub' | 'storage') => (request: IncomingMessage, response: ServerResponse) =>
      void this.#serve(request, response, at)
    const open = (at: 'hub' | 'storage'): Server =>
      tls === undefined ? createServer(serving(at)) : createTlsServer(tls, serving(at))
    this.#scheme = tls === undefined ? 'http' : 'https'
    this.#hub = open('hub')
    this.#storage = open('storage')
    for (const server of [this.#hub, this.#storage])
      server.on('connection', (socket) => {
        this.#sockets.add(socket)
        socket.on('close', () => this.#sockets.delete(socket))
      })
  }

  /** With `tls` it speaks https. */
  static async start(tls?: HubTls, address = '127.0.0.1'): Promise<TestHub> {
    const hub = new TestHub(tls, address)
    for (const server of [hub.#hub, hub.#storage]) {
      server.listen(0, address)
      await once(server, 'listening')
    }
    hub.#ports = [hub.#hub, hub.#storage].map((server) => (server.address() as AddressInfo).port)
    return hub
  }

  /** For HF_ENDPOINT. */
  get endpoint(): string {
    return `${this.#scheme}://${this.#address}:${this.#ports[0]}`
  }

  get storage(): string {
    return `${this.#scheme}://${this.#address}:${this.#ports[1]}`
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    for (const server of [this.#hub, this.#storage].filter(({ listening }) => listening)) {
      server.close()
      await once(server, 'close')
    }
  }

  /** A new commit on a branch (main) of a repository, which is made if it is not there; answers its id. */
  commit(
    name: string,
    files: Readonly<Record<string, Uint8Array | HubContent>>,
    options: RepositoryOptions & { readonly branch?: string } = {},
  ): string {
    const repository = this.#repositories.get(name) ?? {
      commits: new Map(),
      branches: new Map(),
      gated: false,
      private: false,
    }
    this.#repositories.set(name, repository)
    repository.gated = options.gated ?? repository.gated
    repository.private = options.private ?? repository.private
    const id = hashOf('sha1', name, String((this.#moments += 1)))
    const contents = Object.entries(files).map(
      ([file, bytes]) =>
        [file, bytes instanceof Uint8Array ? content(bytes, isLarge(file, bytes.byteLength)) : bytes] as const,
    )
    repository.commits.set(id, new Map(contents))
    repository.branches.set(options.branch ?? 'main', id)
    return id
  }

  /** The next `times` requests that match go wrong so. */
  fault(matches: (request: HubRequest) => boolean, fault: HubFault, times = Infinity): void {
    this.#rules.push({ matches, fault, left: times })
  }

  /** Everything works again. */
  heal(): void {
    this.#rules.length = 0
  }

  /** Bytes of file content that left the hub. */
  bytesSent(file?: string): number {
    return this.requests
      .filter((r) => r.about === 'content' && (file === undefined || r.file === file))
      .reduce((sum, r) => sum + r.bytesSent, 0)
  }

  async #serve(request: IncomingMessage, response: ServerResponse, at: 'hub' | 'storage'): Promise<void> {
    const url = new URL(request.url ?? '/', this.endpoint)
    const entry: HubRequest = {
      ...placeOf(url, at),
      path: url.pathname,
      range: request.headers.range,
      authorization: request.headers.authorization,
      status: 0,
      bytesSent: 0,
    }
    this.requests.push(entry)
    const faults = this.#faultsFor(entry)
    for (const fault of faults) if ('run' in fault) fault.run()
    const answer = this.#answer(url, at, request)
    entry.status = answer.status
    await send(request, response, answer, entry, faults).catch(() => response.destroy())
  }

  #faultsFor(request: HubRequest): readonly HubFault[] {
    const hits = this.#rules.filter((rule) => rule.left > 0 && rule.matches(request))
    for (const rule of hits) rule.left -= 1
    return hits.map(({ fault }) => fault)
  }

  #answer(url: URL, at: 'hub' | 'storage', request: IncomingMessage): Answer {
    if (at === 'storage') return this.#stored(url, request)
    const parts = url.pathname
      .split('/')
      .filter((part) => part !== '')
      .map(decodeURIComponent)
    const api = parts[0] === 'api'
    const cached = api && parts[1] === 'resolve-cache'
    const [org = '', repo = '', verb = 'info', revision = 'main', ...path] = api ? parts.slice(cached ? 3 : 2) : parts
    const name = `${org}/${repo}`
    const repository = this.#repositories.get(name)
    const token = request.headers.authorization?.replace(/^Bearer /, '')
    const member = token !== undefined && this.members.has(token)
    if (token !== undefined && !member && !this.strangers.has(token))
      return problem(401, undefined, 'Invalid username or password.')
    if (repository === undefined || (repository.private && !member))
      return token === undefined
        ? problem(401, 'RepoNotFound', 'Invalid username or password.')
        : problem(404, 'RepoNotFound', 'Repository not found')
    if (cached) return this.#small(repository, name, verb, [revision, ...path].join('/'))
    const commit = repository.branches.get(revision) ?? (repository.commits.has(revision) ? revision : undefined)
    if (commit === undefined) return problem(404, 'RevisionNotFound', `Invalid rev id: ${revision}`)
    if (verb === 'info' || verb === 'revision') return info(name, repository, commit)
    if (verb === 'tree') return this.#tree(url, name, repository, commit)
    if (repository.gated && !member)
      return problem(
        token === undefined ? 401 : 403,
        'GatedRepo',
        `Access to model ${name} is restricted. You must have access to it and be authenticated to access it.`,
      )
    const file = repository.commits.get(commit)?.get(path.join('/'))
    if (file === undefined) return problem(404, 'EntryNotFound', 'Entry not found')
    return verb === 'raw' ? raw(file) : this.#resolve(name, commit, path.join('/'), file)
  }

  #tree(url: URL, name: string, repository: Repository, commit: string): Answer {
    const recursive = url.searchParams.get('recursive') === 'true'
    const files = [...(repository.commits.get(commit) ?? [])].filter(([path]) => recursive || !path.includes('/'))
    const start = Number(url.searchParams.get('cursor') ?? 0)
    const page = files.slice(start, start + this.pageSize).map(([path, file]) => treeEntry(path, file))
    const next = start + this.pageSize
    const link = `<${this.endpoint}/api/models/${name}/tree/${commit}?recursive=${recursive}&cursor=${next}>; rel="next"`
    return json(page, next < files.length ? { link } : {})
  }

  #resolve(name: string, commit: string, path: string, file: HubContent): Answer {
    const common = { 'x-repo-commit': commit, 'accept-ranges': 'bytes', vary: 'Origin' }
    if (!file.large)
      return {
        status: 307,
        headers: { ...common, location: `/api/resolve-cache/models/${name}/${commit}/${encodeURIComponent(path)}` },
        body: Buffer.from('Temporary Redirect'),
      }
    const key = encodeURIComponent(`${name}@${commit}/${path}`)
    return {
      status: 302,
      headers: {
        ...common,
        location: `${this.storage}/repos/${key}?Expires=1&${SIGNATURE}`,
        'x-linked-size': String(file.sizeBytes),
        'x-linked-etag': `"${file.sha256}"`,
      },
      body: Buffer.from('Found. Redirecting'),
    }
  }

  #small(repository: Repository, name: string, commit: string, path: string): Answer {
    const file = repository.commits.get(commit)?.get(path)
    if (file === undefined) return problem(404, 'EntryNotFound', `Entry not found in ${name}`)
    return { status: 200, headers: { etag: `"${blobId(file)}"`, 'x-repo-commit': commit }, file }
  }

  /** As S3 behind a content network: the address is the credential, and a second one is an error. */
  #stored(url: URL, request: IncomingMessage): Answer {
    if (!url.search.includes(SIGNATURE)) return problem(403, undefined, 'AccessDenied')
    if (request.headers.authorization !== undefined) return problem(400, undefined, 'Only one auth mechanism allowed')
    const [, name = '', commit = '', path = ''] =
      /^(.*)@([0-9a-f]{40})\/(.*)$/.exec(decodeURIComponent(url.pathname.slice(7))) ?? []
    const file = this.#repositories.get(name)?.commits.get(commit)?.get(path)
    if (file === undefined) return problem(404, undefined, 'NoSuchKey')
    return { status: 200, headers: { etag: `"${file.sha256}"` }, file }
  }
}

/** Which request a fault or a question is about. */
export const about =
  (what: HubRequest['about'], file?: string) =>
  (request: HubRequest): boolean =>
    request.about === what && (file === undefined || request.file === file)

function placeOf(url: URL, at: 'hub' | 'storage'): Pick<HubRequest, 'about' | 'file'> {
  const last = decodeURIComponent(decodeURIComponent(url.pathname)).split('/').at(-1) ?? ''
  if (at === 'storage' || url.pathname.startsWith('/api/resolve-cache/')) return { about: 'content', file: last }
  if (url.pathname.startsWith('/api/')) return { about: url.pathname.includes('/tree/') ? 'tree' : 'info', file: '' }
  if (url.pathname.includes('/resolve/')) return { about: 'resolve', file: last }
  return { about: url.pathname.includes('/raw/') ? 'raw' : 'other', file: last }
}

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body?: Uint8Array
  readonly file?: HubContent
}

const json = (value: unknown, headers: Readonly<Record<string, string>> = {}, status = 200): Answer => ({
  status,
  headers: { 'content-type': 'application/json; charset=utf-8', ...headers },
  body: Buffer.from(JSON.stringify(value)),
})

const problem = (status: number, code: string | undefined, message: string): Answer =>
  json(
    { error: message },
    { 'x-error-message': message, ...(code === undefined ? {} : { 'x-error-code': code }) },
    status,
  )

const info = (name: string, repository: Repository, commit: string): Answer =>
  json({
    _id: hashOf('sha1', name).slice(0, 24),
    id: name,
    modelId: name,
    private: repository.private,
    gated: repository.gated ? 'manual' : false,
    pipeline_tag: 'text-generation',
    downloads: 0,
    likes: 0,
    lastModified: '2026-01-01T00:00:00.000Z',
    sha: commit,
    siblings: [...(repository.commits.get(commit)?.keys() ?? [])].map((rfilename) => ({ rfilename })),
  })

const blobId = (file: HubContent): string => hashOf('sha1', `blob ${file.sizeBytes}\0`, file.read(0, file.sizeBytes))

const pointer = (file: HubContent): Buffer =>
  Buffer.from(`version https://git-lfs.github.com/spec/v1\noid sha256:${file.sha256}\nsize ${file.sizeBytes}\n`)

const raw = (file: HubContent): Answer => ({
  status: 200,
  headers: { 'content-type': 'text/plain' },
  ...(file.large ? { body: pointer(file) } : { file }),
})

function treeEntry(path: string, file: HubContent): object {
  if (!file.large) return { type: 'file', oid: blobId(file), size: file.sizeBytes, path }
  const text = pointer(file)
  return {
    type: 'file',
    oid: hashOf('sha1', `blob ${text.length}\0`, text),
    size: file.sizeBytes,
    lfs: { oid: file.sha256, size: file.sizeBytes, pointerSize: text.length },
    xetHash: hashOf('sha256', 'xet', file.sha256),
    path,
  }
}

const PIECE_BYTES = 64 * 1024

async function send(
  request: IncomingMessage,
  response: ServerResponse,
  answer: Answer,
  entry: HubRequest,
  faults: readonly HubFault[],
): Promise<void> {
  const given = faults.find((f) => 'answer' in f)
  if (given !== undefined && 'answer' in given) {
    entry.status = given.answer
    response.writeHead(given.answer, given.headers).end(given.body ?? 'as told')
    return
  }
  const { file } = answer
  const size = file?.sizeBytes ?? answer.body?.byteLength ?? 0
  const ignores = faults.some((f) => 'ignoresRange' in f)
  const range = file === undefined || ignores ? undefined : rangeOf(request.headers.range, size)
  if (range === 'Unsatisfiable') {
    entry.status = 416
    response.writeHead(416, { 'content-range': `bytes */${size}` }).end()
    return
  }
  const [start, end] = range ?? [0, size]
  const lie = faults.reduce((sum, f) => sum + ('liesAboutLengthBy' in f ? f.liesAboutLengthBy : 0), 0)
  const more = Object.assign({}, ...faults.map((f) => ('headers' in f ? f.headers : {}))) as Record<string, string>
  entry.status = range === undefined ? answer.status : 206
  response.writeHead(entry.status, {
    ...answer.headers,
    ...(range === undefined ? {} : { 'content-range': `bytes ${start}-${end - 1}/${size + lie}` }),
    'content-length': String(end - start + lie),
    ...more,
  })
  if (request.method === 'HEAD') return void response.end()
  const read = (from: number, to: number) => file?.read(from, to) ?? answer.body?.subarray(from, to) ?? new Uint8Array()
  await sendBody(response, { start, end, read, lie }, entry, faults)
}

interface Body {
  readonly start: number
  readonly end: number
  readonly read: (from: number, to: number) => Uint8Array
  readonly lie: number
}

async function sendBody(
  response: ServerResponse,
  { start, end, read, lie }: Body,
  entry: HubRequest,
  faults: readonly HubFault[],
): Promise<void> {
  const stall = limitOf(faults, 'stallAfterBytes')
  const cut = limitOf(faults, 'cutAfterBytes')
  const slow = limitOf(faults, 'slowBytesPerSecond')
  const until = Math.min(end, start + Math.min(stall, cut))
  for (let at = start; at < until && !response.destroyed; at += PIECE_BYTES) {
    const piece = corrupted(read(at, Math.min(until, at + PIECE_BYTES)), at, faults)
    entry.bytesSent += piece.byteLength
    if (!response.write(piece)) await drained(response)
    if (slow < Infinity) await new Promise((resolve) => setTimeout(resolve, (piece.byteLength / slow) * 1000))
  }
  if (until < end && cut < stall) response.destroy()
  else if (until < end) response.flushHeaders()
  else if (lie > 0) response.destroy()
  else response.end()
}

const drained = (response: ServerResponse): Promise<void> =>
  new Promise((resolve) => {
    const go = () => {
      response.off('drain', go).off('close', go)
      resolve()
    }
    response.on('drain', go).on('close', go)
  })

const limitOf = (faults: readonly HubFault[], key: string): number =>
  Math.min(Infinity, ...faults.map((f) => (f as Readonly<Record<string, number>>)[key] ?? Infinity))

function corrupted(piece: Uint8Array, at: number, faults: readonly HubFault[]): Uint8Array {
  const places = faults.flatMap((f) => ('corruptsByte' in f ? [f.corruptsByte - at] : []))
  const inside = places.filter((place) => place >= 0 && place < piece.byteLength)
  if (inside.length === 0) return piece
  const copy = Uint8Array.from(piece)
  for (const place of inside) copy[place] = (copy[place] ?? 0) ^ 1
  return copy
}

/** One range, as everybody asks for; undefined: the whole. */
function rangeOf(header: string | undefined, size: number): readonly [number, number] | undefined | 'Unsatisfiable' {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? '')
  if (match === null) return undefined
  const [, from = '', to = ''] = match
  if (from === '') return [Math.max(0, size - Number(to)), size]
  const start = Number(from)
  if (start >= size) return 'Unsatisfiable'
  return [start, to === '' ? size : Math.min(size, Number(to) + 1)]
}
