/** What moving bytes of files onto disk is to whoever decides on it; done in threads of its own (threads.ts). */

/** One GET; can be handed to another thread. */
export interface FileRequest {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  /** For the origin of `url` alone, not for where it redirects to. */
  readonly authorization?: string
  /** Followed at most; one on https never to one that is not. */
  readonly redirects: number
  readonly connectMsMax: number
  /** Who we are, whom we trust and who must answer. Absent: as every client of the web. */
  readonly identity?: Identity
}

export interface Identity {
  readonly ca: string
  readonly cert?: string
  readonly key?: string
  /** Whose certificate the server must show. Absent: that of the host in the address. */
  readonly servername?: string
}

export interface Head {
  readonly status: number
  /** By lower-case name, the first of each. */
  readonly headers: Readonly<Record<string, string>>
}

/** What becomes of a body: it continues the part, or is the file from its first byte on. */
export type Verdict = 'Append' | 'Restart'

export interface ReceiveOptions {
  readonly request: FileRequest
  /** Whoever throws refuses the body; `receive` then rejects with what was thrown. */
  readonly judge: (head: Head) => Verdict | Promise<Verdict>
  /** More bytes are with the system; told often, not for each. */
  readonly onBytes: (bytes: number) => void
  readonly signal: AbortSignal
}

/** `NAME.part` of one file: its bytes on disk and the hash over them. One call at a time. */
export interface PartFile {
  /** With the system: a SIGKILL costs none of them, and others can read them. */
  readonly bytes: number
  /**
   * One request; whatever it brings is kept. Resolves when the body has ended in good order or the file is full.
   * Rejects when the answer breaks off, with the error of a write (then the part is worth what is on disk), or with the
   * reason of the signal.
   */
  receive(options: ReceiveOptions): Promise<void>
  /** Forgets every byte. */
  restart(): Promise<void>
  /** Of the bytes that are here, in hex. */
  sha256(): Promise<string>
  close(): Promise<void>
}

export interface PartPlace {
  readonly path: string
  readonly sizeBytes: number
}

export interface Transfers {
  /** What an earlier run left is hashed from disk; more than the file can have is worth nothing. */
  open(place: PartPlace, signal: AbortSignal): Promise<PartFile>
  close(): Promise<void>
}
