// Why a request is not answered with what it asked for: a status and a message, in Flink's words where Flink has some.

/** Thrown by handlers, turned into `{"errors": [message]}` by who routes. */
export class Refusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }

  static query(parameter: string, value: string): Refusal {
    return new Refusal(400, `Cannot resolve query parameter (${parameter}) from value "${value}".`);
  }

  static path(parameter: string, value: string): Refusal {
    return new Refusal(
      400,
      `Bad request, could not parse parameters: Cannot resolve path parameter (${parameter}) from value "${value}".`,
    );
  }

  static notFound(message: string): Refusal {
    return new Refusal(404, message);
  }
}
